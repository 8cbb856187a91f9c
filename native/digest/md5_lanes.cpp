// MD5 (RFC 1321) of several byte strings at once, one in each lane of a vector. Every step of MD5 waits for the one before, so that a
// single string leaves most of a processor idle; eight of them take little longer than one. An addon of its own: `md5-lanes.ts`
// loads it, and does without where it is not there.
#include <node_api.h>

#include <cstdint>
#include <cstring>

// Ifuncs, which choose among the clones when the addon is loaded, are a matter of x86 and glibc.
#if defined(__x86_64__) && defined(__GLIBC__) && !defined(__clang__)
#define HAS_CLONES 1
#if __GNUC__ >= 12
#define FOR_EACH_CPU __attribute__((target_clones("arch=x86-64-v4", "avx2", "default")))
#else
#define FOR_EACH_CPU __attribute__((target_clones("avx2", "default")))
#endif
#else
#define HAS_CLONES 0
#define FOR_EACH_CPU
#endif

namespace {

constexpr uint32_t kLanes = 8;
constexpr size_t kBlockBytes = 64;
constexpr size_t kWords = kBlockBytes / sizeof(uint32_t);
constexpr size_t kStateWords = 4;

typedef uint32_t Lanes __attribute__((vector_size(kLanes * sizeof(uint32_t))));

struct Job {
  uint32_t lanes = 0;
  size_t lengthBytes = 0;
  uint32_t* states[kLanes] = {};
  const uint8_t* bytes[kLanes] = {};
};

constexpr uint32_t kSines[64] = {
    0xd76aa478, 0xe8c7b756, 0x242070db, 0xc1bdceee, 0xf57c0faf, 0x4787c62a, 0xa8304613, 0xfd469501, 0x698098d8, 0x8b44f7af, 0xffff5bb1,
    0x895cd7be, 0x6b901122, 0xfd987193, 0xa679438e, 0x49b40821, 0xf61e2562, 0xc040b340, 0x265e5a51, 0xe9b6c7aa, 0xd62f105d, 0x02441453,
    0xd8a1e681, 0xe7d3fbc8, 0x21e1cde6, 0xc33707d6, 0xf4d50d87, 0x455a14ed, 0xa9e3e905, 0xfcefa3f8, 0x676f02d9, 0x8d2a4c8a, 0xfffa3942,
    0x8771f681, 0x6d9d6122, 0xfde5380c, 0xa4beea44, 0x4bdecfa9, 0xf6bb4b60, 0xbebfbc70, 0x289b7ec6, 0xeaa127fa, 0xd4ef3085, 0x04881d05,
    0xd9d4d039, 0xe6db99e5, 0x1fa27cf8, 0xc4ac5665, 0xf4292244, 0x432aff97, 0xab9423a7, 0xfc93a039, 0x655b59c3, 0x8f0ccc92, 0xffeff47d,
    0x85845dd1, 0x6fa87e4f, 0xfe2ce6e0, 0xa3014314, 0x4e0811a1, 0xf7537e82, 0xbd3af235, 0x2ad7d2bb, 0xeb86d391,
};
constexpr int kShifts[4][4] = {{7, 12, 17, 22}, {5, 9, 14, 20}, {4, 11, 16, 23}, {6, 10, 15, 21}};

// Lanes without a string do the work of the first one again.
FOR_EACH_CPU void addBlocks(const Job* job) {
  const uint8_t* bytes[kLanes];
  Lanes state[kStateWords];
  for (size_t lane = 0; lane < kLanes; lane++) {
    const size_t from = lane < job->lanes ? lane : 0;
    bytes[lane] = job->bytes[from];
    for (size_t i = 0; i < kStateWords; i++) state[i][lane] = job->states[from][i];
  }
  for (size_t at = 0; at < job->lengthBytes; at += kBlockBytes) {
    Lanes words[kWords];
    for (size_t i = 0; i < kWords; i++) {
      for (size_t lane = 0; lane < kLanes; lane++) {
        uint32_t word;
        memcpy(&word, bytes[lane] + at + i * sizeof word, sizeof word);
        words[i][lane] = word;
      }
    }
    Lanes a = state[0], b = state[1], c = state[2], d = state[3];
#pragma GCC unroll 64
    for (int i = 0; i < 64; i++) {
      const int round = i / 16;
      const int word = (round == 0 ? i : round == 1 ? 5 * i + 1 : round == 2 ? 3 * i + 5 : 7 * i) % 16;
      const int shift = kShifts[round][i % 4];
      Lanes sum = a + (words[word] + kSines[i]);
      // The second round's function is a sum of disjoint bits, of which only one half has to wait for the step before.
      sum += round == 0 ? d ^ (b & (c ^ d)) : round == 1 ? (c & ~d) + (b & d) : round == 2 ? b ^ c ^ d : c ^ (b | ~d);
      a = d;
      d = c;
      c = b;
      b += (sum << shift) | (sum >> (32 - shift));
    }
    state[0] += a;
    state[1] += b;
    state[2] += c;
    state[3] += d;
  }
  for (size_t lane = 0; lane < job->lanes; lane++) {
    for (size_t i = 0; i < kStateWords; i++) job->states[lane][i] = state[i][lane];
  }
}

// The array at an index of an array of arrays. Null: there is none, or one of another type.
void* arrayAt(napi_env env, napi_value arrays, uint32_t index, napi_typedarray_type wanted, size_t* length) {
  napi_value array;
  napi_typedarray_type type;
  void* data = nullptr;
  if (napi_get_element(env, arrays, index, &array) != napi_ok) return nullptr;
  if (napi_get_typedarray_info(env, array, &type, length, &data, nullptr, nullptr) != napi_ok) return nullptr;
  return type == wanted ? data : nullptr;
}

bool readJob(napi_env env, napi_value states, napi_value pieces, Job* job) {
  if (napi_get_array_length(env, states, &job->lanes) != napi_ok || job->lanes == 0 || job->lanes > kLanes) return false;
  for (uint32_t lane = 0; lane < job->lanes; lane++) {
    size_t stateWords = 0, lengthBytes = 0;
    job->states[lane] = static_cast<uint32_t*>(arrayAt(env, states, lane, napi_uint32_array, &stateWords));
    job->bytes[lane] = static_cast<const uint8_t*>(arrayAt(env, pieces, lane, napi_uint8_array, &lengthBytes));
    if (lane == 0) job->lengthBytes = lengthBytes;
    const bool isSound = job->states[lane] != nullptr && stateWords == kStateWords && job->bytes[lane] != nullptr &&
                         lengthBytes == job->lengthBytes && lengthBytes % kBlockBytes == 0;
    if (!isSound) return false;
  }
  return true;
}

// addBlocks(states: Uint32Array[], pieces: Uint8Array[]): adds to each state a piece; all pieces have the same number of whole blocks
napi_value addBlocks(napi_env env, napi_callback_info info) {
  napi_value values[2];
  size_t count = 2;
  Job job;
  napi_get_cb_info(env, info, &count, values, nullptr, nullptr);
  if (readJob(env, values[0], values[1], &job)) {
    addBlocks(&job);
  } else {
    bool isPending = false;
    napi_is_exception_pending(env, &isPending);
    if (!isPending) napi_throw_type_error(env, nullptr, "not as many states as pieces of whole blocks");
  }
  return nullptr;
}

// Where registers are not as wide as all lanes, one string after the other is as fast.
bool isWorthwhile() {
#if HAS_CLONES
  return __builtin_cpu_supports("avx2");
#else
  return false;
#endif
}

}  // namespace

NAPI_MODULE_INIT() {
  napi_value lanes, function;
  napi_create_uint32(env, isWorthwhile() ? kLanes : 1, &lanes);
  napi_set_named_property(env, exports, "lanes", lanes);
  napi_create_function(env, "addBlocks", NAPI_AUTO_LENGTH, addBlocks, nullptr, &function);
  napi_set_named_property(env, exports, "addBlocks", function);
  return exports;
}
