// The devices that tests run on: both emulated ones, and every GPU of this build and machine.
//
//   class Softmax : public DeviceTest {};
//   TEST_P(Softmax, ...) { device().upload(...); device().kernels().softmax(stream(), args); ... }
//   GRETA_ON_ALL_DEVICES(Softmax);
//
// gives the tests Emulated/Softmax.X/emulated32, .../emulated64 (label `unit`) and Hardware/Softmax.X/cuda0 (label `gpu`).
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "ops/gpu/device.h"

namespace greta::gpu {

struct TestDevice {
  std::string backend;
  int index = 0;
  std::string name;  // of the test
};
inline void PrintTo(const TestDevice& device, std::ostream* out) { *out << device.name; }

std::vector<TestDevice> emulated_test_devices();
std::vector<TestDevice> hardware_test_devices();
/// Opened once a process, and kept. Emulated ones run blocks and threads in a shuffled order.
Device& shared_device(const TestDevice& which);

/// Device memory for a test, released with it. T: what it holds.
template <class T>
class DeviceArray {
 public:
  DeviceArray(Device& device, std::size_t n)
      : device_(device), n_(n), data_(device.allocate(n * sizeof(T), "a test's array")) {}
  DeviceArray(Device& device, std::span<const T> values) : DeviceArray(device, values.size()) {
    device_.upload(data_, values.data(), n_ * sizeof(T), device_.stream());
  }
  DeviceArray(Device& device, const std::vector<T>& values) : DeviceArray(device, std::span<const T>(values)) {}
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;
  ~DeviceArray() { device_.release(data_); }

  std::byte* bytes() const { return data_; }
  T* get() const { return reinterpret_cast<T*>(data_); }
  std::size_t size() const { return n_; }
  /// Waits for the main stream.
  std::vector<T> download() const {
    std::vector<T> values(n_);
    device_.download(values.data(), data_, n_ * sizeof(T), device_.stream());
    device_.synchronize(device_.stream());
    return values;
  }

 private:
  Device& device_;
  std::size_t n_;
  std::byte* data_;
};

class DeviceTest : public testing::TestWithParam<TestDevice> {
 protected:
  Device& device() const { return shared_device(GetParam()); }
  Stream stream() const { return device().stream(); }
  bool emulated() const { return GetParam().backend == "emulated"; }
};

inline std::string device_test_name(const testing::TestParamInfo<TestDevice>& info) { return info.param.name; }

}  // namespace greta::gpu

// A build or machine without a GPU has no hardware tests.
#define GRETA_ON_ALL_DEVICES(suite)                                                                 \
  GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(suite);                                             \
  INSTANTIATE_TEST_SUITE_P(Emulated, suite, testing::ValuesIn(greta::gpu::emulated_test_devices()), \
                           greta::gpu::device_test_name);                                           \
  INSTANTIATE_TEST_SUITE_P(Hardware, suite, testing::ValuesIn(greta::gpu::hardware_test_devices()), \
                           greta::gpu::device_test_name)
