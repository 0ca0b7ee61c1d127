package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/umbra-iot/umbra/broker/mapping"
	"github.com/umbra-iot/umbra/broker/mapping/cases"
	"github.com/umbra-iot/umbra/internal/client"
)

const mappingHelp = `Mappings make shadows of plain MQTT devices: see docs/mappings.md.

check, test, try, presets and show work without a server. live and apply take a new file to the real traffic.`

func newMapping(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "mapping",
		Short:   "Look after mappings of plain MQTT devices",
		Long:    mappingHelp,
		Example: "  umbra mapping try --mapping tasmota stat/plug/RESULT '{\"POWER\":\"ON\"}'\n  umbra mapping status tasmota-plug",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(
		newMappingLs(a), newMappingPresets(a), newMappingShow(a), newMappingCheck(a), newMappingTest(a), newMappingTry(a), newMappingLive(a),
		newMappingApply(a), newMappingRm(a), newMappingStatus(a), newMappingErrors(a), newMappingOrphans(a), newMappingClean(a),
	)
	return cmd
}

func newMappingPresets(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "presets", Short: "List the mappings that come with umbrad", Example: "  umbra mapping presets -o json", Args: arguments(0, 0),
	}
	return lists(a, cmd, listing[string]{
		titles:  []string{"MAPPING"},
		fields:  []string{"name"},
		entries: func(context.Context, []string) ([]string, error) { return mapping.Presets(), nil },
		item: func(name string) item {
			return item{name: name, doc: object{"name": name}, cells: plainCells([]string{name}), fields: []string{name}}
		},
	})
}

func newMappingShow(a *app) *cobra.Command {
	var stored bool
	cmd := &cobra.Command{
		Use: "show NAME", Short: "Show a mapping that comes with umbrad", Example: "  umbra mapping show tasmota > mine.yaml\n  umbra mapping show --stored plug", Args: arguments(1, 1),
		ValidArgs: mapping.Presets(),
	}
	cmd.Flags().BoolVar(&stored, "stored", false, "show the mapping of this name that is in the store")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if stored {
			return a.withClient(a.showStored)(cmd, args)
		}
		text, ok := mapping.Preset(args[0])
		if !ok {
			return failf(exitNotFound, "there is no mapping %q; there are %s (those of the store with --stored)", args[0], strings.Join(mapping.Presets(), ", "))
		}
		_, err := a.stdout.Write(text)
		return err
	}
	return cmd
}

func (a *app) showStored(ctx context.Context, c *client.Client, args []string) error {
	m, err := c.StoredMapping(ctx, args[0])
	if err != nil {
		return fmt.Errorf("mapping %s: %w", args[0], err)
	}
	_, err = io.WriteString(a.stdout, m.Text)
	return err
}

// readMappings reads mappings by their names or files.
func (a *app) readMappings(names []string) ([]*mapping.Mapping, error) {
	var all []*mapping.Mapping
	for _, name := range names {
		text, ok := mapping.Preset(name)
		if !ok {
			var err error
			if text, err = os.ReadFile(name); err != nil {
				return nil, failf(exitUsage, "%q is no mapping of umbrad, and no file: %w", name, err)
			}
		}
		list, warnings, err := mapping.Load(name, text)
		if err != nil {
			return nil, failf(exitInvalid, "%w", err)
		}
		a.showWarnings(warnings)
		all = append(all, list...)
	}
	return all, nil
}

func (a *app) showWarnings(warnings []*mapping.Diagnostic) {
	for _, w := range warnings {
		fmt.Fprintln(a.stderr, w.Error())
	}
}

// mappingSet checks mappings against each other.
func (a *app) mappingSet(names []string) (*mapping.Set, error) {
	list, err := a.readMappings(names)
	if err != nil {
		return nil, err
	}
	set, warnings, err := mapping.NewSet(list)
	if err != nil {
		return nil, failf(exitInvalid, "%w", err)
	}
	a.showWarnings(warnings)
	return set, nil
}

func newMappingCheck(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "check FILE...", Short: "Check mapping files, each and against each other",
		Long: `Check mapping files, each and against each other. Names of mappings that come with umbrad may be
among them. Errors and warnings name file, line and key. The exit code is 5 when there are errors.`,
		Example: "  umbra mapping check mine.yaml\n  umbra mapping check mine.yaml tasmota", Args: arguments(1, -1),
		RunE: func(_ *cobra.Command, args []string) error {
			set, err := a.mappingSet(args)
			if err != nil {
				return err
			}
			n := len(set.Mappings())
			_, err = fmt.Fprintf(a.stdout, "%d %s valid\n", n, plural(n, "mapping"))
			return err
		},
	}
}

func newMappingTest(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "test [FILE] CASES", Short: "Run sequences of messages against a mapping",
		Long: `Run sequences of messages against a mapping, in virtual time, and compare shadows and commands with
what the sequences expect. Without FILE the mapping is the one in CASES. The exit code is 1 when a
sequence fails.`,
		Example: "  umbra mapping test mine.yaml mine.json\n  umbra mapping test cases.json", Args: arguments(1, 2),
		RunE: func(_ *cobra.Command, args []string) error {
			var given []*mapping.Mapping
			if len(args) == 2 {
				set, err := a.mappingSet(args[:1])
				if err != nil {
					return err
				}
				given = set.Mappings()
			}
			return a.testMapping(args[len(args)-1], given)
		},
	}
}

func (a *app) testMapping(file string, given []*mapping.Mapping) error {
	text, err := a.readFile(file)
	if err != nil {
		return err
	}
	f, err := cases.Parse(text)
	if err != nil {
		return failf(exitInvalid, "%s: %w", file, err)
	}
	failed := 0
	for i := range f.Sequences {
		s := &f.Sequences[i]
		if err := cases.Run(f, s, given); err != nil {
			failed++
			fmt.Fprintf(a.stdout, "FAIL %s: %s: %v\n", s.ID, s.Title, err)
			continue
		}
		fmt.Fprintf(a.stdout, "ok   %s\n", s.ID)
	}
	if failed > 0 {
		return failf(exitOther, "%d of %d %s failed", failed, len(f.Sequences), plural(len(f.Sequences), "sequence"))
	}
	return nil
}

func newMappingLs(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "ls", Short: "List the mappings that the server uses", Example: "  umbra mapping ls\n  umbra mapping ls -o json", Args: arguments(0, 0),
	}
	return lists(a, cmd, listing[client.Mapping]{
		titles: []string{"MAPPING", "THINGS", "ERRORS", "SOURCE"},
		fields: []string{"name", "things", "errors", "source"},
		entries: clientList("list mappings", a, func(ctx context.Context, c *client.Client, _ []string) ([]client.Mapping, error) {
			return c.Mappings(ctx)
		}),
		item: func(m client.Mapping) item {
			fields := []string{m.Name, strconv.Itoa(m.Things), strconv.FormatInt(m.Errors, 10), m.Source}
			return item{name: m.Name, doc: documentOf(m), cells: plainCells(fields), fields: fields}
		},
	})
}

// documentOf is what a document of the API says.
func documentOf(v any) object {
	text := encodeJSON(v)
	doc, err := decodeJSON(text)
	if err != nil {
		panic(err) // it was just encoded
	}
	return doc.(object) //nolint:forcetypeassert // v is a struct
}

// withClient makes a RunE of what needs the server.
func (a *app) withClient(do func(context.Context, *client.Client, []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		c, err := a.client()
		if err != nil {
			return err
		}
		return do(cmd.Context(), c, args)
	}
}

func newMappingStatus(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "status THING", Short: "Show the device behind a thing, and its commands",
		Example: "  umbra mapping status tasmota-plug\n  umbra mapping status tasmota-plug -o json", Args: arguments(1, 1),
		ValidArgsFunction: a.completeShadow,
	}
	formatFlag(cmd, formatShort, formatJSON, formatYAML)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		f, err := outputFormat(cmd)
		if err != nil {
			return err
		}
		c, err := a.client()
		if err != nil {
			return err
		}
		devices, err := c.Devices(cmd.Context(), args[0])
		if err != nil {
			return fmt.Errorf("devices of %s: %w", args[0], err)
		}
		if len(devices) == 0 {
			return failf(exitNotFound, "no mapping makes the thing %s", args[0])
		}
		if f.kind != formatShort {
			return f.document(a.stdout, encodeJSON(devices))
		}
		t := table{out: a.stdout, colour: a.colour, uncut: true}
		for _, d := range devices {
			t.row(cell{text: d.Mapping}, cell{text: "link " + d.Link}, cell{text: "seen " + clock(d.Seen, a.location())})
			for _, k := range d.Commands {
				t.row(cell{text: "  " + strings.Join(k.Path, ".")}, cell{text: k.State}, cell{text: strings.TrimSpace(k.Topic + " " + k.Message)})
			}
		}
		return t.flush()
	}
	return cmd
}

func newMappingErrors(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "errors", Short: "Show the last failures of mappings", Example: "  umbra mapping errors\n  umbra mapping errors -o ndjson", Args: arguments(0, 0),
	}
	return lists(a, cmd, listing[client.MappingFailure]{
		titles: []string{"AGE", "MAPPING", "CODE", "TOPIC", "MESSAGE"},
		fields: []string{"timestamp", "mapping", "code", "thing", "topic", "message"},
		entries: clientList("mapping errors", a, func(ctx context.Context, c *client.Client, _ []string) ([]client.MappingFailure, error) {
			return c.MappingFailures(ctx)
		}),
		item: func(m client.MappingFailure) item {
			return item{
				name: m.Mapping,
				doc:  documentOf(m),
				cells: []cell{
					{text: age(a.now().Sub(time.UnixMilli(m.Time)))}, {text: m.Mapping}, {text: m.Code, tint: tintRed}, {text: m.Topic}, {text: m.Message, long: true},
				},
				fields: []string{strconv.FormatInt(m.Time, 10), m.Mapping, m.Code, m.Thing, m.Topic, m.Message},
			}
		},
	})
}

func newMappingOrphans(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "orphans", Short: "List retained messages of things that there are not",
		Example: "  umbra mapping orphans\n  umbra mapping orphans -o name", Args: arguments(0, 0),
	}
	l := orphans
	l.entries = clientList("orphans", a, func(ctx context.Context, c *client.Client, _ []string) ([]client.Orphan, error) {
		return c.Orphans(ctx)
	})
	return lists(a, cmd, l)
}

// orphans is how they are shown.
var orphans = listing[client.Orphan]{
	titles: []string{"TOPIC", "THING", "MAPPING"},
	fields: []string{"topic", "thing", "mapping"},
	item: func(o client.Orphan) item {
		fields := []string{o.Topic, o.Thing, o.Mapping}
		return item{name: o.Topic, doc: documentOf(o), cells: plainCells(fields), fields: fields}
	},
}

func newMappingClean(a *app) *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use: "clean", Short: "Clear the retained messages that orphans lists", Args: arguments(0, 0),
		Long:    "Clear the retained messages that orphans lists. Without --yes they are only listed.",
		Example: "  umbra mapping clean\n  umbra mapping clean --yes",
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "clear them")
	cmd.RunE = a.withClient(func(ctx context.Context, c *client.Client, _ []string) error {
		list, err := c.Orphans(ctx)
		if err != nil {
			return fmt.Errorf("orphans: %w", err)
		}
		if err := orphans.write(a, format{kind: formatTable}, list); err != nil {
			return err
		}
		if !yes {
			a.note("nothing is cleared without --yes")
			return nil
		}
		for _, o := range list {
			if err := c.ClearOrphan(ctx, o.Topic); err != nil {
				return fmt.Errorf("clear %s: %w", o.Topic, err)
			}
		}
		a.note("cleared %d %s", len(list), plural(len(list), "message"))
		return nil
	})
	return cmd
}
