/**
 * EventFlow's own TypeScript client, as its API reference has it, against this server.
 *
 *     node examples/typescript/eventflow.ts         # a server that gives development tokens, as `npm start` does
 */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import axios from "axios";

class EventFlowClient {
  private baseURL: string;
  private token: string;

  constructor(baseURL: string, token: string) {
    this.baseURL = baseURL;
    this.token = token;
  }

  async createFunction(name: string, image: string, replicas: number = 1) {
    const response = await axios.post(
      `${this.baseURL}/v1/functions`,
      { name, image, replicas },
      {
        headers: {
          Authorization: `Bearer ${this.token}`,
          "Content-Type": "application/json",
        },
      },
    );
    return response.data;
  }

  async listFunctions() {
    const response = await axios.get(`${this.baseURL}/v1/functions`, {
      headers: {
        Authorization: `Bearer ${this.token}`,
      },
    });
    return response.data;
  }

  async deleteFunction(name: string) {
    await axios.delete(`${this.baseURL}/v1/functions/${name}`, {
      headers: {
        Authorization: `Bearer ${this.token}`,
      },
    });
  }
}

const url = process.env.PULSEWIRE_URL ?? "http://127.0.0.1:8080";
const user = { user_id: "alice", username: "Alice", email: "alice@company.com" };
const { token } = (await axios.post(`${url}/auth/token`, user)).data;
const client = new EventFlowClient(url, token);
const name = `my-app-${randomUUID().slice(0, 8)}`;
const created = await client.createFunction(name, "nginx:alpine", 2);
console.log(created.name, created.namespace, created.status);
const names = async () => (await client.listFunctions()).map((each: { name: string }) => each.name);
assert.ok((await names()).includes(name));
await client.deleteFunction(name);
assert.ok(!(await names()).includes(name));
