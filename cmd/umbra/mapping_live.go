package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/umbra-iot/umbra/broker/mapping"
	"github.com/umbra-iot/umbra/internal/client"
)

func newMappingLive(a *app) *cobra.Command {
	var w client.WatchMappings
	cmd := &cobra.Command{
		Use: "live [FILE]", Short: "Show what mappings would do with the real traffic",
		Long: `Show what mappings would do with the messages, connections and changes that the server sees from now
on: which rules are about them, what would be written (all that the message says, also what is known)
and what would be sent. Nothing is written and nothing is sent. The mappings are those of FILE ("-" for
stdin, or the name of one that comes with umbrad), which need not be in force, or else those in force.

It needs umbra:Administer. A server that has more to tell than it can drops some, and says so.`,
		Example: `  umbra mapping live --for 10s
  umbra mapping live mine.yaml --match 'plug/#'  # before umbra mapping apply mine.yaml
  umbra mapping live tasmota --for 1m --all      # also what no rule is about
  umbra mapping live -o json | jq .updates`,
		Args: arguments(0, 1), ValidArgs: mapping.Presets(),
	}
	formatFlag(cmd, formatShort, formatJSON)
	cmd.Flags().DurationVar(&w.For, "for", 0, "stop after this `time`, and tell how much no rule was about (default until interrupted)")
	cmd.Flags().StringVar(&w.Match, "match", "", "only messages, also sent ones, whose topics match this `filter`")
	cmd.Flags().BoolVar(&w.All, "all", false, "also messages that no rule is about")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		f, err := outputFormat(cmd)
		if err != nil {
			return err
		}
		if w.For != 0 && w.For < time.Second {
			return usagef("--for must be a second at least")
		}
		if len(args) > 0 {
			if w.Text, err = a.mappingText(args[0]); err != nil {
				return err
			}
		}
		return a.liveMappings(cmd.Context(), w, f)
	}
	return cmd
}

// mappingText returns a mapping that comes with umbrad, or a file after it was checked.
func (a *app) mappingText(name string) ([]byte, error) {
	if text, ok := mapping.Preset(name); ok {
		return text, nil
	}
	text, err := a.readFile(name)
	if err != nil {
		return nil, err
	}
	if _, _, err := mapping.Load(name, text); err != nil { // here it is known by its name
		return nil, failf(exitInvalid, "%w", err)
	}
	return text, nil
}

// liveEvent is an event of what mappings would do.
type liveEvent struct {
	Timestamp int64  `json:"timestamp"` // ms since the epoch
	Kind      string `json:"kind"`
	Topic     string `json:"topic"`
	mapping.PayloadView
	Retain bool   `json:"retain"`
	Will   bool   `json:"will"`
	Client string `json:"client"`
	Thing  string `json:"thing"`
	Shadow string `json:"shadow"`
	mapping.View
}

// liveSummary is what a stream of them has seen.
type liveSummary struct {
	Messages  int            `json:"messages"`
	Unmatched int            `json:"unmatched"`
	Topics    map[string]int `json:"topics"`
	Dropped   int            `json:"dropped"`
}

func (a *app) liveMappings(ctx context.Context, w client.WatchMappings, f format) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	err = c.WatchMappings(ctx, w, func(e client.Event) error {
		if f.kind == formatJSON {
			_, err := fmt.Fprintln(a.stdout, string(e.Data)) // the server sends it compact
			return err
		}
		if e.Type == "summary" {
			return a.liveSummary(e.Data)
		}
		return a.liveEvent(e.Data)
	})
	if err != nil {
		return fmt.Errorf("mapping live: %w", err)
	}
	return nil
}

func (a *app) liveEvent(data []byte) error {
	var e liveEvent
	if err := json.Unmarshal(data, &e); err != nil {
		return fmt.Errorf("the server sent no event of mappings: %w", err)
	}
	at := time.UnixMilli(e.Timestamp).In(a.location()).Format(shortTime)
	if _, err := fmt.Fprintf(a.stdout, "%s  %s\n", tintDim.paint(at, a.colour), e.what(a.colour)); err != nil {
		return err
	}
	return writeView(a.stdout, "  ", &e.View)
}

// what names what has happened.
func (e *liveEvent) what(colour bool) string {
	if e.Kind != "message" {
		return strings.TrimSpace(tintBold.paint(visible(e.Kind), colour) + " " + visible(strings.TrimSuffix(e.Thing+"/"+e.Shadow, "/")))
	}
	text := tintBold.paint(visible(e.Topic), colour) + "  " + visible(describePayload(&e.PayloadView))
	var more []string
	if e.Retain {
		more = append(more, "retained")
	}
	if e.Will {
		more = append(more, "will")
	}
	if e.Client != "" {
		more = append(more, "by "+visible(e.Client))
	}
	if len(more) > 0 {
		text += "  " + tintDim.paint(strings.Join(more, ", "), colour)
	}
	return text
}

func (a *app) liveSummary(data []byte) error {
	var s liveSummary
	if err := json.Unmarshal(data, &s); err != nil {
		return errors.Join(errors.New("the server sent no summary"), err)
	}
	a.note("%d %s, %d that no rule is about", s.Messages, plural(s.Messages, "message"), s.Unmatched)
	topics := slices.SortedFunc(maps.Keys(s.Topics), func(x, y string) int {
		if s.Topics[x] != s.Topics[y] {
			return s.Topics[y] - s.Topics[x]
		}
		return strings.Compare(x, y)
	})
	for _, t := range topics {
		a.note("  %d on %s", s.Topics[t], t)
	}
	if s.Dropped > 0 {
		a.note("%d more came too fast for the server to look at", s.Dropped)
	}
	return nil
}
