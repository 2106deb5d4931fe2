#!/bin/bash
# Two disks that hold the same data already: nothing goes together before one of them is given up, and then nothing is
# copied but what differs.
source "$(dirname "$0")/../case.sh"

pair_create_workspace
pair_write_configuration "$SIZE" 'peer-timeout = 500ms'
dd if=/dev/urandom of="$(disk_of alpha)" bs=1M count=64 status=none
cp "$(disk_of alpha)" "$(disk_of beta)"
order alpha create --existing-data
order beta create --existing-data
start_node alpha
start_node beta

is_unrelated() { < <(on "$1" explain) grep -q 'rule unrelated:'; }
for node in alpha beta; do
  wait_until 15 is_unrelated "$node" || fail "$node does not say that the data is unrelated: $(on "$node" explain)"
  for loser in alpha beta; do
    < <(on "$node" explain) grep -q "on $loser: 'lockstep resync pgdata $(other_node "$loser") --discard-my-data" ||
      fail "$node does not say what would end it"
  done
  has "$node" '.peers[0].unrelated' true
  < <(on "$node" status) grep -q 'connection:StandAlone .* unrelated:yes' || fail "$(on "$node" status)"
done

# Direct I/O that changes anything in the file changes its time.
last_write() { stat -c %y "$(disk_of beta)"; }
before=$(last_write)
order beta resync alpha --discard-my-data "$(status_of beta .generation)"
expect_equal_images alpha
[[ $(last_write) == "$before" ]] || fail 'something was written to a disk that was equal already'
< <(on alpha explain) grep -q 'rule unrelated-peer-gives-way' || fail "$(on alpha explain)"

say 'the same with one block that differs: it alone is copied'
order alpha down
order beta down
rm "$(disk_of alpha).meta" "$(disk_of beta).meta"
printf 'another' | dd of="$(disk_of beta)" bs=4096 seek=5000 conv=notrunc status=none
sum=$(sha256sum <"$(disk_of alpha)")
order alpha create --existing-data
order beta create --existing-data
start_node alpha
start_node beta
wait_until 15 is_unrelated beta
order beta resync alpha --discard-my-data "$(status_of beta .generation)"
expect_equal_images alpha
[[ $(sha256sum <"$(disk_of beta)") == "$sum" ]] || fail 'the wrong disk gave way'

say 'an ordinary pair from here on'
order alpha promote
sector_client write "$(uri_of alpha)" --offset 0 --length 4096 --sequence 1 --flush yes
expect_equal_images alpha
