// Package portico_test walks through the platform with the generated Go clients, once through each door.
//
// It needs a running gateway: clients/run.sh starts one, and tells where it is through the environment.
package portico_test

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	v1 "portico/clients/go/gen/podium/v1"
)

// walkTimeout bounds a whole walk: starting an agent is the only slow step, and takes a second or two.
const walkTimeout = time.Minute

// chunkSize is small, so that even the echo bundle travels in several messages.
const chunkSize = 256

// door is the platform as seen through one protocol with one key.
type door struct {
	health         func(context.Context, *v1.GetHealthRequest) (*v1.GetHealthResponse, error)
	createKey      func(context.Context, *v1.CreateKeyRequest) (*v1.CreateKeyResponse, error)
	listKeys       func(context.Context, *v1.ListKeysRequest) (*v1.ListKeysResponse, error)
	revokeKey      func(context.Context, *v1.RevokeKeyRequest) (*v1.RevokeKeyResponse, error)
	getDeployment  func(context.Context, *v1.GetDeploymentRequest) (*v1.GetDeploymentResponse, error)
	createInstance func(context.Context, *v1.CreateInstanceRequest) (*v1.CreateInstanceResponse, error)
	getInstance    func(context.Context, *v1.GetInstanceRequest) (*v1.GetInstanceResponse, error)
	deleteInstance func(context.Context, *v1.DeleteInstanceRequest) (*v1.DeleteInstanceResponse, error)
	upload         func(context.Context) (clientStream, error)
	followLogs     func(context.Context, *v1.FollowLogsRequest) (receiver[v1.FollowLogsResponse], error)
	attach         func(context.Context) (bidiStream, error) // nil where the protocol has no full duplex
}

type receiver[R any] interface{ Receive() (*R, error) }

type clientStream interface {
	Send(*v1.UploadDeploymentRequest) error
	CloseAndReceive() (*v1.UploadDeploymentResponse, error)
}

type bidiStream interface {
	receiver[v1.AttachResponse]
	Send(*v1.AttachRequest) error
	CloseRequest() error
}

func environment(t *testing.T, name string) string {
	t.Helper()
	value := os.Getenv(name)
	if value == "" {
		t.Fatalf("%s is not set: start the tests through clients/run.sh", name)
	}
	return value
}

// walk does what a newcomer would: make a key, deploy an agent, start it, talk to it, read its log, and clean up.
func walk(t *testing.T, name string, open func(key string) door) {
	cx, cancel := context.WithTimeout(context.Background(), walkTimeout)
	defer cancel()
	admin := open(environment(t, "PORTICO_KEY"))
	anonymous, stranger := open(""), open("pod_nobody")
	tenant := "go-" + name

	health, err := anonymous.health(cx, &v1.GetHealthRequest{})
	must(t, "ask for health without a key", err)
	if health.GetStatus() == "" {
		t.Error("health has no status")
	}

	_, err = anonymous.listKeys(cx, &v1.ListKeysRequest{})
	mustFail(t, "list keys without a key", err, "unauthenticated")
	_, err = stranger.listKeys(cx, &v1.ListKeysRequest{})
	mustFail(t, "list keys with a bad key", err, "unauthenticated")

	key, err := admin.createKey(cx, &v1.CreateKeyRequest{TenantId: tenant, Name: "walk"})
	must(t, "create a key", err)
	member := open(key.GetKey())
	keys, err := admin.listKeys(cx, &v1.ListKeysRequest{TenantId: tenant})
	must(t, "list keys", err)
	if len(keys.GetKeys()) == 0 || keys.GetKeys()[0].GetKeyId() != key.GetKeyId() {
		t.Errorf("the new key is not the first of %v", keys.GetKeys())
	}
	_, err = member.listKeys(cx, &v1.ListKeysRequest{})
	mustFail(t, "list keys as a tenant", err, "permission_denied")

	deployment := deploy(cx, t, admin, "1.0.0-"+tenant)
	got, err := member.getDeployment(cx, &v1.GetDeploymentRequest{DeploymentId: deployment.GetDeploymentId()})
	must(t, "get the deployment", err)
	if got.GetDeployment().GetChecksum() != deployment.GetChecksum() {
		t.Errorf("checksum %q became %q", deployment.GetChecksum(), got.GetDeployment().GetChecksum())
	}

	instance, err := member.createInstance(cx, &v1.CreateInstanceRequest{DeploymentId: deployment.GetDeploymentId()})
	must(t, "create an instance", err)
	id := instance.GetInstanceId()
	if member.attach != nil {
		talk(cx, t, member, id)
	}
	logs, err := member.followLogs(cx, &v1.FollowLogsRequest{InstanceId: id})
	must(t, "follow the log", err)
	first, err := logs.Receive()
	must(t, "receive the first log entry", err)
	if first.GetSequence() < 1 {
		t.Errorf("the first log entry has no sequence number: %v", first)
	}

	_, err = member.deleteInstance(cx, &v1.DeleteInstanceRequest{InstanceId: id})
	must(t, "delete the instance", err)
	_, err = admin.revokeKey(cx, &v1.RevokeKeyRequest{KeyId: key.GetKeyId()})
	must(t, "revoke the key", err)
	_, err = member.getInstance(cx, &v1.GetInstanceRequest{InstanceId: id})
	mustFail(t, "use a revoked key", err, "unauthenticated")
}

// deploy streams the echo bundle in small chunks.
func deploy(cx context.Context, t *testing.T, admin door, version string) *v1.UploadDeploymentResponse {
	t.Helper()
	bundle, err := os.ReadFile(environment(t, "PORTICO_BUNDLE"))
	must(t, "read the bundle", err)
	stream, err := admin.upload(cx)
	must(t, "begin an upload", err)
	must(t, "name the bundle", stream.Send(&v1.UploadDeploymentRequest{AgentType: "echo", Version: version}))
	for len(bundle) > 0 {
		chunk := bundle[:min(chunkSize, len(bundle))]
		bundle = bundle[len(chunk):]
		must(t, "send a chunk", stream.Send(&v1.UploadDeploymentRequest{File: chunk}))
	}
	deployment, err := stream.CloseAndReceive()
	must(t, "end the upload", err)
	if want := "echo:" + version + "@"; !strings.HasPrefix(deployment.GetDeploymentId(), want) {
		t.Fatalf("deployment id %q does not begin with %q", deployment.GetDeploymentId(), want)
	}
	return deployment
}

// talk sends one message to the echo agent and reads its answer to the end.
func talk(cx context.Context, t *testing.T, member door, id string) {
	t.Helper()
	const command = `{"type":"process_message","content":{"text":"hello from Go","messages":[]}}`
	stream, err := member.attach(cx)
	must(t, "attach", err)
	must(t, "send a frame", stream.Send(&v1.AttachRequest{
		InstanceId: id,
		Frame:      &v1.AttachRequest_Text{Text: command},
	}))
	var answer strings.Builder
	for !strings.Contains(answer.String(), `"complete"`) {
		frame, err := stream.Receive()
		must(t, "receive a frame", err)
		answer.WriteString(frame.GetText())
	}
	if !strings.Contains(answer.String(), "hello") {
		t.Errorf("the echo agent did not echo: %s", answer.String())
	}
	must(t, "hang up", stream.CloseRequest())
}

func must(t *testing.T, what string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

func mustFail(t *testing.T, what string, err error, code string) {
	t.Helper()
	if got := codeOf(err); got != code {
		t.Fatalf("%s: got %q (%v), want %q", what, got, err, code)
	}
}
