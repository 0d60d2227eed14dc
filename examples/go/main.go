// EventFlow's own Go client, as its API reference has it, against this server: the standard library alone.
//
//	go run ./examples/go        # a server that gives development tokens, as `npm start` does
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"time"
)

type EventFlowClient struct {
	BaseURL string
	Token   string
	Client  *http.Client
}

type Function struct {
	Name     string            `json:"name"`
	Image    string            `json:"image"`
	Replicas int               `json:"replicas"`
	Env      map[string]string `json:"env,omitempty"`
}

func (c *EventFlowClient) CreateFunction(fn Function) error {
	body, _ := json.Marshal(fn)
	req, _ := http.NewRequest("POST", c.BaseURL+"/v1/functions", bytes.NewBuffer(body))
	req.Header.Set("Authorization", "Bearer "+c.Token)
	req.Header.Set("Content-Type", "application/json")

	resp, err := c.Client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()

	if resp.StatusCode != http.StatusCreated {
		return fmt.Errorf("unexpected status: %d", resp.StatusCode)
	}
	return nil
}

func (c *EventFlowClient) ListFunctions() ([]Function, error) {
	req, _ := http.NewRequest("GET", c.BaseURL+"/v1/functions", nil)
	req.Header.Set("Authorization", "Bearer "+c.Token)

	resp, err := c.Client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()

	var functions []Function
	if err := json.NewDecoder(resp.Body).Decode(&functions); err != nil {
		return nil, err
	}
	return functions, nil
}

func developmentToken(baseURL string) (string, error) {
	body := []byte(`{"user_id": "alice", "username": "Alice", "email": "alice@company.com"}`)
	resp, err := http.Post(baseURL+"/auth/token", "application/json", bytes.NewBuffer(body))
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	var answer struct {
		Token string `json:"token"`
	}
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("unexpected status: %d", resp.StatusCode)
	}
	err = json.NewDecoder(resp.Body).Decode(&answer)
	return answer.Token, err
}

func main() {
	baseURL := os.Getenv("PULSEWIRE_URL")
	if baseURL == "" {
		baseURL = "http://127.0.0.1:8080"
	}
	token, err := developmentToken(baseURL)
	if err != nil {
		panic(err)
	}
	client := &EventFlowClient{BaseURL: baseURL, Token: token, Client: &http.Client{}}

	fn := Function{
		Name:     fmt.Sprintf("my-app-%d", time.Now().UnixNano()),
		Image:    "nginx:alpine",
		Replicas: 2,
	}
	if err := client.CreateFunction(fn); err != nil {
		panic(err)
	}
	functions, err := client.ListFunctions()
	if err != nil {
		panic(err)
	}
	for _, function := range functions {
		if function.Name == fn.Name {
			fmt.Printf("Found %d functions, %s among them\n", len(functions), fn.Name)
			return
		}
	}
	panic("the function that was created is not in the list")
}
