#!/usr/bin/env bash
# Event Processor: single events and batches with an API key, statistics, analytics, health.
source "$(dirname "$0")/common.sh"
KEY=${KEY:-$(demo apiKey)}
id="evt_$RANDOM$RANDOM"
event="{
  \"eventType\": \"user_signup\", \"userId\": \"user_abc123\", \"sessionId\": \"session_xyz789\",
  \"timestamp\": \"2024-01-30T12:34:56Z\", \"metadata\": { \"source\": \"web\", \"campaign\": \"summer_promo\" },
  \"payload\": { \"referrer\": \"google.com\", \"browser\": \"Chrome\" }, \"priority\": 1, \"eventId\": \"$id\"
}"

call 202 POST /api/v1/events -H "x-api-key: $KEY" -d "$event"
call 200 POST /api/v1/events -H "x-api-key: $KEY" -d "$event"
has '"duplicate":true'
call 202 POST /api/v1/events/batch -H "x-api-key: $KEY" -d '{ "events": [
  { "eventType": "page_view", "userId": "user_1", "sessionId": "session_1", "timestamp": "2024-01-30T12:34:56Z" },
  { "eventType": "click", "userId": "user_2", "sessionId": "session_2", "timestamp": "2024-01-30T12:35:00Z" }
] }'
call 401 POST /api/v1/events -d "$event"
has MISSING_API_KEY
call 400 POST /api/v1/events -H "x-api-key: $KEY" -d '{}'
has VALIDATION_ERROR
call 200 GET /api/v1/events/stats -H "x-api-key: $KEY"
call 200 GET '/api/v1/analytics/metrics?timeRange=24h&eventType=click&userId=user_'
call 200 GET /api/health
call 200 GET /api/ready
call 200 GET /api/live
