// Making files, before any loop runs. Everything here blocks.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "io/base/result.h"

namespace lockstep::io {

// Called now and then with what is done.
using ZeroProgress = std::function<void(uint64_t done_bytes, uint64_t total_bytes)>;

// Makes `path` (which must not exist) a file of `size_bytes` full of written zeroes, mode 0600, then syncs the file
// and its folder. Zeroes are really written: extents that are only reserved would cost a journal commit at each flush
// after a first write. Exhausted, before anything is written, when the file system has too little room; on any error
// the file is removed again.
Status allocate_zeroed(const std::string& path, uint64_t size_bytes, const ZeroProgress& progress = {});

// Writes zeroes over all of an existing file or block device, and syncs it.
Status overwrite_with_zeroes(const std::string& path, const ZeroProgress& progress = {});

// Makes a rename or a new name in the folder of `path` durable.
Status sync_folder_of(const std::string& path);

// Room for an unprivileged writer on the file system that holds (or will hold) `path`, in bytes.
Result<uint64_t> free_space_bytes(const std::string& path);

}  // namespace lockstep::io
