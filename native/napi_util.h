// Arguments and results of exported functions. A wrong argument is a defect of binding.ts: it throws a TypeError.
#pragma once

#include <node_api.h>

#include <cstdint>
#include <string>

class Arguments {
 public:
  static constexpr size_t kMax = 8;

  Arguments(napi_env env, napi_callback_info info) : env_(env) {
    napi_get_cb_info(env, info, &count_, values_, nullptr, nullptr);
  }

  napi_value value(size_t index) const { return values_[index]; }

  int64_t integer(size_t index) {
    int64_t result = 0;
    check(index, napi_get_value_int64(env_, values_[index], &result));
    return result;
  }

  bool boolean(size_t index) {
    bool result = false;
    check(index, napi_get_value_bool(env_, values_[index], &result));
    return result;
  }

  std::string text(size_t index) {
    size_t length = 0;
    check(index, napi_get_value_string_utf8(env_, values_[index], nullptr, 0, &length));
    std::string result(length, '\0');
    if (ok_) napi_get_value_string_utf8(env_, values_[index], result.data(), length + 1, &length);
    return result;
  }

  template <typename T>
  T* external(size_t index) {
    void* result = nullptr;
    check(index, napi_get_value_external(env_, values_[index], &result));
    return static_cast<T*>(result);
  }

  // False: an exception is pending, return at once.
  bool ok() const { return ok_; }

 private:
  void check(size_t index, napi_status status) {
    if (status == napi_ok || !ok_) return;
    ok_ = false;
    napi_throw_type_error(env_, nullptr, ("argument " + std::to_string(index) + " has the wrong type").c_str());
  }

  napi_env env_;
  size_t count_ = kMax;
  napi_value values_[kMax] = {};
  bool ok_ = true;
};

inline napi_value makeNumber(napi_env env, double number) {
  napi_value result;
  napi_create_double(env, number, &result);
  return result;
}

inline napi_value makeInteger(napi_env env, int32_t number) {
  napi_value result;
  napi_create_int32(env, number, &result);
  return result;
}

inline napi_value makeBoolean(napi_env env, bool value) {
  napi_value result;
  napi_get_boolean(env, value, &result);
  return result;
}

inline void exportFunction(napi_env env, napi_value exports, const char* name, napi_callback callback) {
  napi_value function;
  napi_create_function(env, name, NAPI_AUTO_LENGTH, callback, nullptr, &function);
  napi_set_named_property(env, exports, name, function);
}
