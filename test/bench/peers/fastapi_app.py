"""The peer of single events: a FastAPI endpoint that inserts one row a request through asyncpg."""

import json
import os
from datetime import datetime

import asyncpg
from fastapi import FastAPI
from pydantic import BaseModel

INSERT = """insert into public.bench_peer (event_id, event_type, user_id, session_id, severity, priority, occurred_at, body)
values ($1, $2, $3, $4, $5, $6, $7, $8)"""


class Event(BaseModel):
    eventId: str
    eventType: str
    title: str = ""
    message: str = ""
    severity: str
    source: dict[str, str]
    context: dict
    metrics: dict[str, float]
    payload: dict
    userId: str
    sessionId: str
    timestamp: datetime
    priority: int


class Request(BaseModel):
    event: Event


app = FastAPI()


@app.on_event("startup")
async def connect():
    app.state.pool = await asyncpg.create_pool(
        host=os.environ["PEER_DB_HOST"],
        user=os.environ["PEER_DB_USER"],
        database=os.environ["PEER_DB_NAME"],
        min_size=16,
        max_size=16,
    )


@app.post("/events")
async def ingest(request: Request):
    event = request.event
    body = json.dumps(
        {
            "title": event.title,
            "message": event.message,
            "source": event.source,
            "context": event.context,
            "metrics": event.metrics,
            "payload": event.payload,
        }
    )
    await app.state.pool.execute(
        INSERT,
        event.eventId,
        event.eventType,
        event.userId,
        event.sessionId,
        event.severity,
        event.priority,
        event.timestamp,
        body,
    )
    return {"eventId": event.eventId}
