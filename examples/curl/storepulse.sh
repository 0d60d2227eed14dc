#!/usr/bin/env bash
# StorePulse: a store, a batch of metrics, its history and status, alerts, a key of its own.
source "$(dirname "$0")/common.sh"
KEY=${KEY:-$(demo apiKey)}
auth=(-H "x-api-key: $KEY")

call 201 POST /v1/stores "${auth[@]}" -d "{ \"name\": \"Berlin $RANDOM$RANDOM\", \"expectedInterval\": \"60s\" }"
store=$(json store.id <<<"$BODY")
call 200 POST /v1/metrics/batch "${auth[@]}" -d "{
  \"storeId\": \"$store\",
  \"samples\": [{ \"name\": \"temperature\", \"value\": 21.5 }, { \"name\": \"door_open\", \"value\": 0 }] }"
call 200 GET /v1/stores "${auth[@]}"
call 200 GET "/v1/stores/$store/status" "${auth[@]}"
call 200 GET "/v1/stores/$store/metrics?name=temperature" "${auth[@]}"
call 200 GET /v1/alerts "${auth[@]}"
call 201 POST /v1/api-keys "${auth[@]}" -d "{ \"name\": \"gateway of the store\", \"storeIds\": [\"$store\"] }"
call 200 GET /v1/usage "${auth[@]}"
call 200 GET /health
