"""EventFlow's own Python client, as its API reference has it, against this server.

    python3 examples/python/eventflow.py         # a server that gives development tokens, as `npm start` does
"""

import os
import uuid

import requests


class EventFlowClient:
    def __init__(self, base_url, token):
        self.base_url = base_url
        self.token = token
        self.headers = {
            'Authorization': f'Bearer {token}',
            'Content-Type': 'application/json'
        }

    def create_function(self, name, image, replicas=1):
        response = requests.post(
            f'{self.base_url}/v1/functions',
            json={'name': name, 'image': image, 'replicas': replicas},
            headers=self.headers
        )
        response.raise_for_status()
        return response.json()

    def list_functions(self):
        response = requests.get(
            f'{self.base_url}/v1/functions',
            headers=self.headers
        )
        response.raise_for_status()
        return response.json()

    def delete_function(self, name):
        response = requests.delete(
            f'{self.base_url}/v1/functions/{name}',
            headers=self.headers
        )
        response.raise_for_status()


if __name__ == '__main__':
    url = os.environ.get('PULSEWIRE_URL', 'http://127.0.0.1:8080')
    token = requests.post(f'{url}/auth/token', json={'user_id': 'alice', 'username': 'Alice', 'email': 'alice@company.com'}).json()['token']
    client = EventFlowClient(url, token)
    name = f'my-app-{uuid.uuid4().hex[:8]}'
    created = client.create_function(name, 'nginx:alpine', 2)
    print(created['name'], created['namespace'], created['status'])
    functions = client.list_functions()
    print(f'{len(functions)} functions')
    assert name in [function['name'] for function in functions]
    client.delete_function(name)
    assert name not in [function['name'] for function in client.list_functions()]
