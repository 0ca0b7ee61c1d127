package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/umbra-iot/umbra/internal/client"
	"github.com/umbra-iot/umbra/internal/version"
	"github.com/umbra-iot/umbra/shadow"
)

const rootHelp = `umbra reads and changes device shadows on an umbrad server.

A shadow is named THING, or THING/NAME for a named shadow of a thing.
A path such as desired.color.r begins with a section; a dot in a key is written \.

Data goes to stdout, everything else to stderr. Exit codes:
  0 done             4 version conflict       8 partly failed
  1 other error      5 invalid or too large   130 interrupted
  2 usage            6 not allowed            143 terminated
  3 not found        7 unreachable or timeout`

const rootExample = `  umbra set lamp on=true color.r=255   # what the lamp should become
  umbra get lamp                       # desired and reported, side by side
  umbra wait lamp --for in-sync        # until the lamp has done it
  umbra watch                          # all changes of all things`

func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:               "umbra",
		Short:             "Read and change device shadows",
		Long:              rootHelp,
		Example:           rootExample,
		Args:              cobra.NoArgs,
		SilenceErrors:     true,
		SilenceUsage:      true,
		DisableAutoGenTag: true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return a.prepare(cmd) },
		RunE:              func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetIn(a.stdin)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	flags := root.PersistentFlags()
	flags.StringVar(&a.server, "server", "", "server `URL` (UMBRA_SERVER; default "+client.DefaultServer+")")
	flags.StringVar(&a.context, "context", "", "`name` of the context to use (UMBRA_CONTEXT)")
	a.who.flags(root)
	flags.DurationVar(&a.requestTimeout, "request-timeout", 10*time.Second, "how long one request may take")
	flags.StringVar(&a.colourMode, "color", "auto", "auto, always or never (NO_COLOR)")
	flags.BoolVar(&a.utc, "utc", false, "show times in UTC")
	flags.BoolVarP(&a.verbose, "verbose", "v", false, "show the HTTP exchange on stderr, without secrets")
	root.AddCommand(
		newGet(a), newSet(a), newUnset(a), newReplace(a), newDelete(a),
		newDelta(a), newDiff(a), newLs(a), newWatch(a), newWait(a),
		newMapping(a), newUser(a), newKey(a), newToken(a), newPolicy(a), newThing(a), newAudit(a), newCert(a), newContext(a), newCompletion(), newVersion(a), newWhoami(a),
	)
	return root
}

// prepare is the last step before a command runs.
func (a *app) prepare(cmd *cobra.Command) error {
	switch a.colourMode {
	case "always":
		a.colour = true
	case "auto":
		a.colour = a.stdoutTerminal && a.getenv("NO_COLOR") == "" && a.getenv("TERM") != "dumb"
	case "never":
	default:
		return usagef("--color %s is not one of auto, always, never", a.colourMode)
	}
	if a.requestTimeout <= 0 {
		return usagef("--request-timeout must be above 0")
	}
	if output := cmd.Flags().Lookup("output"); output != nil {
		a.jsonErrors = output.Value.String() == formatJSON || output.Value.String() == formatNDJSON
	}
	a.started = true
	return nil
}

// formatFlag adds -o to a command; the first of the allowed formats is the default.
func formatFlag(cmd *cobra.Command, allowed ...string) {
	cmd.Flags().StringP("output", "o", allowed[0], "`format`: "+describeFormats(allowed))
	completions := make([]cobra.Completion, len(allowed))
	for i, name := range allowed {
		if name == formatJSONPath || name == formatTemplate {
			name += "="
		}
		completions[i] = name
	}
	mustComplete(cmd, "output", completions)
	cmd.Annotations = map[string]string{annotationFormats: strings.Join(allowed, " ")}
}

// annotationFormats keeps the output formats of a command.
const annotationFormats = "formats"

// outputFormat parses the -o that formatFlag added.
func outputFormat(cmd *cobra.Command) (format, error) {
	flag := cmd.Flags().Lookup("output")
	return parseFormat(flag.Value.String(), strings.Fields(cmd.Annotations[annotationFormats]))
}

// mustComplete sets the values that the shell offers for a flag.
func mustComplete(cmd *cobra.Command, flag string, values []cobra.Completion) {
	err := cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp|cobra.ShellCompDirectiveNoSpace))
	if err != nil {
		panic(err) // the flag does not exist: a mistake in this program
	}
}

// client returns a client of the server that flags, environment and contexts choose.
func (a *app) client() (*client.Client, error) {
	choice, err := a.chooseServer()
	if err != nil {
		return nil, err
	}
	if _, err := client.ParseServer(choice.server); err != nil {
		return nil, failf(exitUsage, "%w (from %s)", err, choice.from)
	}
	login, err := a.credentials(choice.who)
	if err != nil {
		return nil, err
	}
	o := client.Options{
		Credentials: login,

		Server:    choice.server,
		Timeout:   a.requestTimeout,
		UserAgent: "umbra/" + version.Get().Version,
	}
	if a.verbose {
		o.Trace = screen{a.stderr}
	}
	c, err := client.New(o)
	if err != nil {
		return nil, failf(exitUsage, "%w", err)
	}
	return c, nil
}

// subject is the shadow that a command is about, where it is, and the form in which the outcome is asked for.
type subject struct {
	id     shadow.ID
	client *client.Client
	format format
}

func (a *app) subject(cmd *cobra.Command, target string) (s subject, err error) {
	if s.format, err = outputFormat(cmd); err != nil {
		return s, err
	}
	if s.id, err = parseTarget(target); err != nil {
		return s, err
	}
	s.client, err = a.client()
	return s, err
}

// parseTarget reads THING or THING/NAME.
func parseTarget(s string) (shadow.ID, error) {
	thing, name, named := strings.Cut(s, "/")
	if named && name == "" {
		return shadow.ID{}, usagef("%q has no shadow name behind the slash; write THING or THING/NAME", s)
	}
	id := shadow.ID{Thing: thing, Name: name}
	if refusal, ok := errors.AsType[*shadow.Error](id.Validate()); ok {
		return shadow.ID{}, failf(exitInvalid, "%q: %s", s, refusal.Message)
	}
	return id, nil
}

// display is the inverse of parseTarget.
func display(id shadow.ID) string {
	if id.Name == "" {
		return id.Thing
	}
	return id.Thing + "/" + id.Name
}

// readFile reads a file, or stdin when name is "-".
func (a *app) readFile(name string) ([]byte, error) {
	read := func() ([]byte, error) { return os.ReadFile(name) }
	if name == "-" {
		read = func() ([]byte, error) { return io.ReadAll(a.stdin) }
	}
	text, err := read()
	if err != nil {
		return nil, failf(exitUsage, "%w", err)
	}
	return text, nil
}

// readObject reads a file that holds a JSON object.
func (a *app) readObject(name string) (object, error) {
	text, err := a.readFile(name)
	if err != nil {
		return nil, err
	}
	v, err := decodeJSON(text)
	if err != nil {
		return nil, failf(exitInvalid, "%s: %w", name, err)
	}
	o, ok := v.(object)
	if !ok {
		return nil, failf(exitInvalid, "%s: want a JSON object", name)
	}
	return o, nil
}

// note tells the operator something that is not data.
func (a *app) note(format string, args ...any) {
	fmt.Fprintf(a.stderr, "umbra: %s\n", visible(fmt.Sprintf(format, args...)))
}

// arguments is a rule whose error shows how the command is used. high is -1 for any number.
func arguments(low, high int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) >= low && (high < 0 || len(args) <= high) {
			return nil
		}
		return usagef("use: %s", cmd.UseLine())
	}
}
