#!/usr/bin/env bash
# PulseStream: register a tenant, log in with the temporary password, ingest events.
source "$(dirname "$0")/common.sh"
slug="my-test-company-$RANDOM$RANDOM"

call 201 POST /api/v1/auth/register/tenant -d "{
  \"name\": \"My Test Company\", \"slug\": \"$slug\", \"contact_email\": \"owner@testcompany.com\"
}"
password=$(json temporary_password <<<"$BODY")

call 200 POST /api/v1/auth/login -d "{
  \"email\": \"owner@testcompany.com\", \"password\": \"$password\", \"tenant_slug\": \"$slug\"
}"
token=$(json access_token <<<"$BODY")

call 200 POST /api/v1/ingestion/events -H "Authorization: Bearer $token" -d '{
  "event_type": "api_call",
  "title": "User Login Attempt",
  "message": "User attempted to log in.",
  "severity": "info",
  "source": { "service": "auth-service", "endpoint": "/api/v1/auth/login", "method": "POST", "version": "1.0" },
  "context": { "user_id": "user-123", "ip_address": "192.168.1.100" },
  "metrics": { "response_time_ms": 150.5, "status_code": 200 },
  "payload": { "username": "testuser" }
}'
has '"processing_status":"queued"'
