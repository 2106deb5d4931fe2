#!/bin/bash
# A disk that holds data already: create asks, keeps it, and it becomes the source of a full first sync.
source "$(dirname "$0")/../case.sh"

pair_create_workspace
pair_write_configuration "$SIZE"
truncate -s "$SIZE" "$(disk_of alpha)"
mkfs.ext4 -q -F "$(disk_of alpha)"
sum=$(sha256sum <"$(disk_of alpha)")

refused 3 'ext4|file system' on alpha create
[[ $(sha256sum <"$(disk_of alpha)") == "$sum" ]] || fail 'the refused create has changed the disk'

order alpha create --existing-data
[[ $(sha256sum <"$(disk_of alpha)") == "$sum" ]] || fail 'create --existing-data has changed the disk'
order beta create
start_node alpha
start_node beta
expect_equal_images alpha
[[ $(sha256sum <"$(disk_of beta)") == "$sum" ]] || fail 'the data did not arrive'
order alpha promote
sector_client write "$(uri_of alpha)" --offset 0 --length 4096 --sequence 1 --flush yes
expect_equal_images alpha

say 'create does not forget what is there'
refused 3 '' on alpha create
order alpha demote
order alpha down
refused 3 'metadata' on alpha create
