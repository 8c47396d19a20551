#!/bin/sh
# A conversion script: every .bin file of the acquisition becomes a text of decimal numbers.
#
# Copy it into the scripts folder of the service (conversions/), make it executable, and give its name as
# convert_script with new_acq_storage. It runs in the acquisition's folder, which is also $ACQ_DIR; see $ACQ_ID,
# $ACQ_VERDICT, $ACQ_METADATA and the others. What it prints goes to a log beside the data, and its exit code says
# whether it succeeded.
set -eu

echo "$ACQ_ID is $ACQ_VERDICT"
total=$(find . -maxdepth 1 -name '*.bin' | wc -l)
converted=0
for file in *.bin; do
    [ -e "$file" ] || continue
    od -A n -v -t u1 "$file" > "$file.part"
    mv "$file.part" "${file%.bin}.txt"
    converted=$((converted + 1))
    echo "::progress $(awk "BEGIN { print $converted / $total }")"
done
