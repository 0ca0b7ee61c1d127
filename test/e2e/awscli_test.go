package e2e_test

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/umbra-iot/umbra/internal/umbradtest"
	"github.com/umbra-iot/umbra/test/mqtttest"
)

// awsCLI runs commands of aws iot-data, with credentials that mean nothing unless told otherwise. It works with version 1
// and version 2.
type awsCLI struct {
	t          *testing.T
	path, dir  string
	endpoint   string
	id, secret string
}

func newAWSCLI(t *testing.T, endpoint string) *awsCLI {
	t.Helper()
	return &awsCLI{t: t, path: umbradtest.Tool(t, "aws"), dir: t.TempDir(), endpoint: endpoint, id: "test", secret: "test"}
}

// try runs a command and returns what it printed.
func (a *awsCLI) try(args ...string) (stdout, stderr string, err error) {
	a.t.Helper()
	args = append([]string{"iot-data", "--endpoint-url", a.endpoint, "--output", "json"}, args...)
	cmd := exec.CommandContext(wait(a.t), a.path, args...)
	cmd.Env = append(slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "AWS_") }),
		"AWS_ACCESS_KEY_ID="+a.id, "AWS_SECRET_ACCESS_KEY="+a.secret, "AWS_DEFAULT_REGION=us-east-1",
		"AWS_PAGER=", "AWS_MAX_ATTEMPTS=1", "AWS_EC2_METADATA_DISABLED=true",
		"AWS_CONFIG_FILE="+filepath.Join(a.dir, "config"),
		"AWS_SHARED_CREDENTIALS_FILE="+filepath.Join(a.dir, "credentials"))
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	return out.String(), errs.String(), err
}

// run is try for commands that have to work.
func (a *awsCLI) run(args ...string) string {
	a.t.Helper()
	out, errs, err := a.try(args...)
	if err != nil {
		a.t.Fatalf("aws iot-data %s: %v\n%s", strings.Join(args, " "), err, errs)
	}
	return out
}

// fails runs a command that has to fail with an error of the class.
func (a *awsCLI) fails(class string, args ...string) {
	a.t.Helper()
	out, errs, err := a.try(args...)
	if err == nil || !strings.Contains(errs, "("+class+")") {
		a.t.Errorf("aws iot-data %s: %v\n%s%s\nwant %s", strings.Join(args, " "), err, out, errs, class)
	}
}

// document runs a command that writes a document to a file, its last argument.
func (a *awsCLI) document(args ...string) document {
	a.t.Helper()
	file := filepath.Join(a.dir, "out.json")
	a.run(append(args, file)...)
	text, err := os.ReadFile(file)
	if err != nil {
		a.t.Fatal(err)
	}
	return mustParse(a.t, text)
}

// payload writes text to a file and returns the argument that names it.
func (a *awsCLI) payload(text string) string {
	a.t.Helper()
	file := filepath.Join(a.dir, "payload")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		a.t.Fatal(err)
	}
	return "fileb://" + file
}

func TestAWSCLIShadows(t *testing.T) {
	t.Parallel()
	u := umbradtest.Start(t, "--store=memory:")
	aws := newAWSCLI(t, u.URL())

	aws.fails("ResourceNotFoundException", "get-thing-shadow", "--thing-name", "lamp", "/dev/null")
	d := aws.document("update-thing-shadow", "--thing-name", "lamp",
		"--payload", aws.payload(`{"state":{"desired":{"on":true},"reported":{"on":false}},"clientToken":"cli"}`))
	if d.Version != 1 || d.Token != "cli" || d.State.Desired["on"] != true {
		t.Errorf("update-thing-shadow gave %+v", d)
	}
	d = aws.document("get-thing-shadow", "--thing-name", "lamp")
	if d.Version != 1 || d.State.Delta["on"] != true || d.State.Reported["on"] != false {
		t.Errorf("get-thing-shadow gave %+v", d)
	}
	aws.fails("ConflictException", "update-thing-shadow", "--thing-name", "lamp",
		"--payload", aws.payload(`{"state":{},"version":7}`), "/dev/null")
	aws.fails("InvalidRequestException", "update-thing-shadow", "--thing-name", "lamp",
		"--payload", aws.payload(`{"state":`), "/dev/null")

	aws.document("update-thing-shadow", "--thing-name", "lamp", "--shadow-name", "cfg:1",
		"--payload", aws.payload(`{"state":{"reported":{"fw":"2.1"}}}`))
	d = aws.document("get-thing-shadow", "--thing-name", "lamp", "--shadow-name", "cfg:1")
	if d.State.Reported["fw"] != "2.1" {
		t.Errorf("get-thing-shadow of the named shadow gave %+v", d)
	}
	var list struct{ Results []string }
	if err := json.Unmarshal([]byte(aws.run("list-named-shadows-for-thing", "--thing-name", "lamp")), &list); err != nil {
		t.Fatal(err)
	}
	if len(list.Results) != 1 || list.Results[0] != "cfg:1" {
		t.Errorf("list-named-shadows-for-thing gave %v", list.Results)
	}
	if d = aws.document("delete-thing-shadow", "--thing-name", "lamp"); d.Version != 1 {
		t.Errorf("delete-thing-shadow gave %+v", d)
	}
	aws.fails("ResourceNotFoundException", "delete-thing-shadow", "--thing-name", "lamp", "/dev/null")
}

func TestAWSCLIMessages(t *testing.T) {
	t.Parallel()
	u := umbradtest.Start(t, "--store=memory:")
	aws := newAWSCLI(t, u.URL())
	listener := dial(t, u.MQTT(), mqtttest.Options{ClientID: "listener"})
	subscribe(t, listener, "home/#", "$aws/things/lamp/shadow/update/accepted")

	aws.run("publish", "--topic", "home/ä b", "--qos", "1", "--retain", "--payload", aws.payload("hello"))
	if got := receive(t, listener, "home/ä b"); string(got) != "hello" {
		t.Errorf("message of publish = %q, want hello", got)
	}
	var message struct {
		Topic   string
		Payload string
		QoS     int
	}
	if err := json.Unmarshal([]byte(aws.run("get-retained-message", "--topic", "home/ä b")), &message); err != nil {
		t.Fatal(err)
	}
	body, err := base64.StdEncoding.DecodeString(message.Payload)
	if err != nil || message.Topic != "home/ä b" || string(body) != "hello" || message.QoS != 1 {
		t.Errorf("get-retained-message gave %+v (%q), %v", message, body, err)
	}
	var list struct{ RetainedTopics []struct{ Topic string } }
	if err := json.Unmarshal([]byte(aws.run("list-retained-messages")), &list); err != nil {
		t.Fatal(err)
	}
	if len(list.RetainedTopics) != 1 || list.RetainedTopics[0].Topic != "home/ä b" {
		t.Errorf("list-retained-messages gave %+v", list)
	}

	aws.run("publish", "--topic", "$aws/things/lamp/shadow/update", "--qos", "1",
		"--payload", aws.payload(`{"state":{"reported":{"on":true}}}`))
	if d := mustParse(t, receive(t, listener, "$aws/things/lamp/shadow/update/accepted")); d.Version != 1 {
		t.Errorf("a publish on a request topic gave %+v", d)
	}
	if d := fetch(t, u.URL(), "lamp"); d.State.Reported["on"] != true {
		t.Errorf("shadow after a publish on its request topic: %+v", d)
	}
}
