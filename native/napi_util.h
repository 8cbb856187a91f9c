// Arguments and results of exported functions. A wrong argument is a defect of binding.ts: it throws a TypeError or
// a RangeError, and nothing is done.
#pragma once

#include <node_api.h>
#include <sys/uio.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

class Arguments {
 public:
  static constexpr size_t kMax = 10;

  Arguments(napi_env env, napi_callback_info info) : env_(env) {
    napi_get_cb_info(env, info, &count_, values_, nullptr, nullptr);
  }

  // A whole number within the limits, which are those of the type unless narrower ones are given.
  template <typename T>
  T integer(size_t index, T min = std::numeric_limits<T>::min(), T max = std::numeric_limits<T>::max()) {
    double number = 0;
    check(index, napi_get_value_double(env_, values_[index], &number));
    // The largest values of 64 bits are no doubles: they become a power of two that is no value of the type any more.
    const bool fits = std::trunc(number) == number && number >= static_cast<double>(min) &&
                      number <= static_cast<double>(max) && number < std::ldexp(1.0, std::numeric_limits<T>::digits);
    if (fits && ok_) return static_cast<T>(number);
    if (ok_) napi_throw_range_error(env_, nullptr, about(index, "is out of range").c_str());
    ok_ = false;
    return min;
  }

  napi_value function(size_t index) {
    napi_valuetype type = napi_undefined;
    napi_typeof(env_, values_[index], &type);
    check(index, type == napi_function ? napi_ok : napi_function_expected);
    return values_[index];
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

  // An array of at most `max` Uint8Arrays. JavaScript has to keep them, and what they are, for as long as they are used.
  std::vector<iovec> pieces(size_t index, uint32_t max) {
    uint32_t count = 0;
    check(index, napi_get_array_length(env_, values_[index], &count));
    if (ok_ && count > max) check(index, napi_invalid_arg);
    std::vector<iovec> result;
    for (uint32_t i = 0; ok_ && i < count; i += 1) {
      napi_value piece = nullptr;
      napi_typedarray_type type = napi_int8_array;
      iovec bytes = {};
      check(index, napi_get_element(env_, values_[index], i, &piece));
      if (ok_) check(index, napi_get_typedarray_info(env_, piece, &type, &bytes.iov_len, &bytes.iov_base, nullptr, nullptr));
      if (ok_ && type != napi_uint8_array) check(index, napi_invalid_arg);
      result.push_back(bytes);
    }
    return result;
  }

  // Null when the value is something else: an exception is pending then.
  template <typename T>
  T* external(size_t index, const napi_type_tag& tag) {
    void* result = nullptr;
    bool isTagged = false;
    check(index, napi_get_value_external(env_, values_[index], &result));
    if (ok_) check(index, napi_check_object_type_tag(env_, values_[index], &tag, &isTagged));
    if (ok_ && !isTagged) check(index, napi_invalid_arg);
    return ok_ ? static_cast<T*>(result) : nullptr;
  }

  // False: an exception is pending, return at once.
  bool ok() const { return ok_; }

 private:
  void check(size_t index, napi_status status) {
    if (status == napi_ok || !ok_) return;
    ok_ = false;
    napi_throw_type_error(env_, nullptr, about(index, "has the wrong type").c_str());
  }

  static std::string about(size_t index, const char* what) {
    return "argument " + std::to_string(index) + " " + what;
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
