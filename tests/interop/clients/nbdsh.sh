#!/bin/bash
# libnbd's Python binding: every command with every flag, and each error.
source "$(dirname "$0")/../server.sh"
PATH=/usr/bin:$PATH  # the system's Python has the binding
needs nbdsh
python3 -c 'import nbd' 2>/dev/null || { echo 'skipped: Python has no libnbd' && exit 77; }
start_server 16M
cat >"$WORK/script.py" <<'PYTHON'
import errno

h.set_strict_mode(0)
h.add_meta_context("base:allocation")
h.connect_uri(uri)
assert h.get_structured_replies_negotiated()
assert h.get_size() == 16 << 20
h.pwrite(b"x" * 4096, 0, nbd.CMD_FLAG_FUA)
assert h.pread(4096, 0, nbd.CMD_FLAG_DF) == b"x" * 4096
h.zero(4096, 8192, nbd.CMD_FLAG_NO_HOLE | nbd.CMD_FLAG_FUA)
h.trim(4096, 4096, nbd.CMD_FLAG_FUA)
h.cache(4096, 0)
h.flush()


def extents_of(length, offset, flags=0):
    found = []
    h.block_status(length, offset, lambda context, at, entries, error: found.extend(entries), flags)
    return found


assert extents_of(16 << 20, 0) == [4096, 0, (16 << 20) - 4096, 3]
assert extents_of(8192, 0, nbd.CMD_FLAG_REQ_ONE) == [4096, 0]


def fails_with(number, call, *arguments):
    try:
        call(*arguments)
    except nbd.Error as error:
        assert error.errnum == number, (call, arguments, error)
    else:
        assert False, (call, arguments)


end = 16 << 20
fails_with(errno.EINVAL, h.pread, 512, end)
fails_with(errno.ENOSPC, h.pwrite, b"x" * 512, end)
fails_with(errno.ENOSPC, h.zero, 512, end)
fails_with(errno.EINVAL, h.trim, 512, end)
fails_with(errno.EINVAL, h.cache, 512, end)
fails_with(errno.EINVAL, h.pread, 512, 100)
fails_with(errno.EINVAL, h.pwrite, b"x" * 512, 0, nbd.CMD_FLAG_DF)
fails_with(errno.ENOTSUP, h.zero, 4096, 0, nbd.CMD_FLAG_FAST_ZERO)
h.flush()
h.shutdown()
PYTHON
nbdsh -c "uri = '$URI'" -c "$(cat "$WORK/script.py")"

# Unaligned requests of a client that asks for no block sizes.
nbdsh -c 'h.set_strict_mode(0)' -c 'h.set_request_block_size(False)' -c "h.connect_uri('$URI')" -c '
h.pwrite(b"abc", 1)
h.pwrite(b"d" * 100000, 1001)
assert h.pread(6, 0) == b"xabcxx", h.pread(6, 0)
assert h.pread(100002, 1000) == b"x" + b"d" * 100000 + b"\0"
h.zero(3, 2)
assert h.pread(6, 0) == b"xa\0\0\0x"
'
