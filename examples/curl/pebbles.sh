#!/usr/bin/env bash
# Pebbles: the progress of a file, from its first update to its last. Reads need no credentials in the public tenant.
source "$(dirname "$0")/common.sh"
KEY=${KEY:-$(demo apiKey)}
slug=${TENANT:-$(demo tenantSlug)}
progress="/clients/krn:$slug:client:123/progress"
file="sales_data_$RANDOM$RANDOM.csv"
auth=(-H "Authorization: Bearer $KEY")

call 200 POST "$progress" "${auth[@]}" -d "{
  \"filename\": \"$file\", \"counts\": { \"done\": 100, \"warn\": 0, \"failed\": 0 }, \"total\": 10000 }"
has '"result":"created"'
call 200 POST "$progress" "${auth[@]}" -d "{
  \"filename\": \"$file\", \"counts\": { \"done\": 500, \"warn\": 10, \"failed\": 2 } }"
has '"done":600'
call 200 POST "$progress" "${auth[@]}" -d "{
  \"filename\": \"$file\", \"counts\": { \"done\": 300, \"warn\": 5, \"failed\": 3 },
  \"errors\": [{ \"line\": 150, \"message\": \"Invalid date format: 2024-13-01\" }],
  \"warnings\": [{ \"line\": 88, \"message\": \"Product code deprecated: PROD-OLD-123\" }] }"
call 200 POST "$progress" "${auth[@]}" -d "{
  \"filename\": \"$file\", \"counts\": { \"done\": 9088, \"warn\": 0, \"failed\": 0 }, \"isLast\": true }"
has '"isCompleted":true'
call 409 POST "$progress" "${auth[@]}" -d "{ \"filename\": \"$file\", \"counts\": { \"done\": 10 } }"
has 'This file processing has already been completed'
call 200 GET "$progress?filename=$file"
call 200 GET "$progress"
call 401 POST "$progress" -d "{ \"filename\": \"$file\", \"counts\": { \"done\": 10, \"warn\": 0, \"failed\": 0 } }"
has 'Missing Authorization header'
