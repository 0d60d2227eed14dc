"""Sends events and reads their analytics, with `requests` alone.

    python3 examples/python/events.py            # the demo tenant of a server started with `npm start`
    PULSEWIRE_URL=… PULSEWIRE_API_KEY=… python3 examples/python/events.py
"""

import json
import os
import pathlib
import time
import uuid

import requests


class Pulsewire:
    """A session with one API key; calls that may be made again are, with the pause that the server asks for."""

    def __init__(self, url, api_key):
        self.url = url
        self.session = requests.Session()
        self.session.headers["x-api-key"] = api_key

    def call(self, method, path, body=None, attempts=5):
        for attempt in range(1, attempts + 1):
            response = self.session.request(method, self.url + path, json=body, timeout=30)
            if response.status_code not in (429, 503) or attempt == attempts:
                break
            time.sleep(float(response.headers.get("retry-after", attempt)))
        if not response.ok:
            problem = response.json()
            raise RuntimeError(f"{response.status_code} {problem.get('reason')}: {problem.get('detail')}")
        return response.json() if response.content else None

    def ingest(self, events):
        """Commits a batch. Every event has an id of its own, so that sending it again does no harm."""
        for event in events:
            event.setdefault("eventId", str(uuid.uuid4()))
        return self.call("POST", "/v1/events:batch", {"events": events})["counts"]


def demo():
    folder = pathlib.Path(os.environ.get("PULSEWIRE_DATA_DIR", ".pulsewire"))
    return json.loads((folder / "demo.json").read_text())


if __name__ == "__main__":
    url = os.environ.get("PULSEWIRE_URL") or demo()["endpoint"]
    client = Pulsewire(url, os.environ.get("PULSEWIRE_API_KEY") or demo()["apiKey"])
    counts = client.ingest(
        [
            {"eventType": "page_view", "userId": f"user_{number % 7}", "sessionId": "python", "payload": {"page": number}}
            for number in range(100)
        ]
    )
    print(f"{counts['accepted']} of {counts['total']} events accepted")
    listed = client.call("GET", "/v1/events?filter.session_id=python&page_size=3")
    print("the latest:", [each["event"]["payload"] for each in listed["events"]])
    print("all told:", client.call("GET", "/v1/events:stats")["totalIngested"])
