package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/umbra-iot/umbra/internal/client"
)

func newPolicy(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "policy", Short: "Manage who may do what",
		Long: `Manage who may do what. Policies are AWS IoT policy documents. They are built in (device, app, operator,
admin, read-only), come from the folder of umbrad's setting "policies", or are kept in its store.
A target is a principal (user:alice, cert:ID, key:ID, token:ID), group:NAME, kind:KIND or anonymous.
Changes count at once, also for those who are connected.`,
		Example: "  umbra policy ls\n  umbra policy put lamps lamps.json\n  umbra policy attach lamps group:lamps",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.newPolicyLs(), a.newPolicyShow(), a.newPolicyPut(),
		a.newPolicyChange("rm NAME", "Delete a policy that is attached to nobody", "lamps", 1,
			func(ctx context.Context, c *client.Client, args []string) error {
				return explained(c.DeletePolicy(ctx, args[0]), "")
			}),
		a.newPolicyChange("attach NAME TARGET", "Attach a policy to a principal or group", "lamps group:lamps", 2,
			func(ctx context.Context, c *client.Client, args []string) error {
				return c.AttachPolicy(ctx, args[0], args[1])
			}),
		a.newPolicyChange("detach NAME TARGET", "Detach a policy from a principal or group", "lamps group:lamps", 2,
			func(ctx context.Context, c *client.Client, args []string) error {
				return c.DetachPolicy(ctx, args[0], args[1])
			}),
		a.newPolicyTest())
	return cmd
}

func (a *app) newPolicyLs() *cobra.Command {
	cmd := &cobra.Command{Use: "ls", Short: "List policies", Example: "  umbra policy ls -o json", Args: arguments(0, 0)}
	return lists(a, cmd, listing[client.Policy]{
		titles: []string{"POLICY", "ORIGIN", "STATEMENTS", "ATTACHED TO"},
		fields: []string{"name", "origin", "statements", "targets"},
		entries: clientList("list policies", a, func(ctx context.Context, c *client.Client, _ []string) ([]client.Policy, error) {
			return c.Policies(ctx)
		}),
		item: func(p client.Policy) item {
			fields := []string{p.Name, p.Origin, strconv.Itoa(p.Statements), strings.Join(p.Targets, ",")}
			doc := object{"name": p.Name, "origin": p.Origin, "statements": p.Statements, "targets": anys(p.Targets)}
			return item{name: p.Name, doc: doc, cells: plainCells(fields), fields: fields}
		},
	})
}

// plainCells are cells without colour.
func plainCells(texts []string) []cell {
	cells := make([]cell, len(texts))
	for i, t := range texts {
		cells[i].text = t
	}
	return cells
}

func (a *app) newPolicyShow() *cobra.Command {
	cmd := &cobra.Command{Use: "show NAME", Short: "Show the document of a policy", Example: "  umbra policy show device", Args: arguments(1, 1)}
	formatFlag(cmd, formatJSON, formatYAML, formatJSONPath, formatTemplate)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		f, err := outputFormat(cmd)
		if err != nil {
			return err
		}
		c, err := a.client()
		if err != nil {
			return err
		}
		p, err := c.Policy(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		return f.document(a.stdout, p.Document)
	}
	return cmd
}

func (a *app) newPolicyPut() *cobra.Command {
	var replace bool
	cmd := &cobra.Command{
		Use: "put NAME FILE", Short: "Store a policy document",
		Example: "  umbra policy put lamps lamps.json\n  umbra policy put lamps -\n  umbra policy put device device.json --replace",
		Long: `Store a policy document, which is in FILE, or comes from stdin with "-".

A policy that is built in or comes from a file stays as it is, unless --replace puts this one in its place:
for all who have it, by default or because it is attached. 'umbra policy rm' brings the old one back, as soon
as the new one is attached to nobody.

Warnings on stderr tell of actions, condition keys and variables that Umbra does not know: they are
misspelt, or AWS's alone. The policy is stored all the same.`,
		Args: arguments(2, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			doc, err := a.readFile(args[1])
			if err != nil {
				return err
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			p, err := c.PutPolicy(cmd.Context(), args[0], doc, replace)
			if err != nil {
				return explained(err, " (--replace)")
			}
			for _, w := range p.Warnings {
				a.note("warning: %s", w)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&replace, "replace", false, "take the place of a policy that is built in or comes from a file")
	return cmd
}

// explained is err, of which the server says why there is a conflict: nobody has changed something meanwhile. more is
// what helps against it.
func explained(err error, more string) error {
	if refusal, ok := errors.AsType[*client.Error](err); ok && refusal.Status == http.StatusConflict {
		return failf(exitConflict, "%w%s", err, more)
	}
	return err
}

// newPolicyChange is a command that changes something and prints nothing.
func (a *app) newPolicyChange(use, short, example string, n int, do func(context.Context, *client.Client, []string) error) *cobra.Command {
	verb, _, _ := strings.Cut(use, " ")
	return &cobra.Command{
		Use: use, Short: short, Example: "  umbra policy " + verb + " " + example, Args: arguments(n, n),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			return do(cmd.Context(), c, args)
		},
	}
}

func (a *app) newPolicyTest() *cobra.Command {
	var (
		q          client.PolicyQuestion
		attributes []string
	)
	cmd := &cobra.Command{
		Use: "test --as PRINCIPAL ACTION RESOURCE", Short: "Tell whether somebody may do something, and why",
		Long: `Tell whether somebody may do something, and which statement of which policy decides. RESOURCE is an ARN,
"*", or what comes in an ARN after the account, such as topic/a or thing/lamp. The exit code is 0
when it is allowed and 1 when it is denied.

A user, key or token that the server knows has what it brings: name, groups, policies and scopes. Of a
certificate the server knows nothing before it is shown: --name, --group and --attribute say what is in it.`,
		Example: "  umbra policy test --as user:alice iot:Publish topic/a\n" +
			"  umbra policy test --as cert:0123abcd --name lamp --client-id lamp iot:Connect client/lamp\n" +
			"  umbra policy test --as cert:0123abcd --attribute Subject.Organization=acme --client-id lamp iot:Publish topic/acme/lamp",
		Args: arguments(2, 2),
	}
	formatFlag(cmd, formatTable, formatJSON, formatYAML)
	cmd.Flags().StringArrayVar(&attributes, "attribute", nil, "`NAME=VALUE` of the certificate, as in iot:Certificate.NAME; may be given several times")
	questionFlags(cmd, &q)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		out, err := outputFormat(cmd)
		if err != nil {
			return err
		}
		if q.Principal == "" {
			return usagef("--as says who is asked about")
		}
		if q.Attributes, err = certificateAttributes(attributes); err != nil {
			return err
		}
		q.Action, q.Resource = args[0], args[1]
		return a.policyTest(cmd.Context(), q, out)
	}
	return cmd
}

// questionFlags adds the flags that are a field of a question.
func questionFlags(cmd *cobra.Command, q *client.PolicyQuestion) {
	f := cmd.Flags()
	f.StringVar(&q.Principal, "as", "", "`principal` who is asked about (required)")
	f.StringVar(&q.Name, "name", "", "`name` of the principal, where neither its credential nor its ID tells")
	f.StringSliceVar(&q.Groups, "group", nil, "`group` of the principal, besides those of its credential; may be given several times")
	f.StringVar(&q.ClientID, "client-id", "", "client `id` of an MQTT connection; without it the question is about HTTP")
	f.BoolVar(&q.Persistent, "persistent", false, "the MQTT session outlives the connection")
	f.StringVar(&q.WillTopic, "will-topic", "", "`topic` of the will of the MQTT connection")
	f.StringVar(&q.Remote, "source-ip", "", "`address` that it comes from")
	f.BoolVar(&q.Secure, "tls", false, "it comes over TLS")
	f.StringVar(&q.Domain, "domain", "", "`name` of the server that the client asks for by TLS")
}

// certificateAttributes makes NAME=VALUE attributes of a certificate. The same name may come with several values.
func certificateAttributes(list []string) (map[string][]string, error) {
	if len(list) == 0 {
		return nil, nil
	}
	all := map[string][]string{}
	for _, text := range list {
		name, value, ok := strings.Cut(text, "=")
		if !ok || name == "" {
			return nil, usagef("--attribute %s is not NAME=VALUE", text)
		}
		all[name] = append(all[name], value)
	}
	return all, nil
}

func (a *app) policyTest(ctx context.Context, q client.PolicyQuestion, f format) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	answer, raw, err := c.TestPolicy(ctx, q)
	if err != nil {
		return err
	}
	if answer.Unknown {
		fmt.Fprintf(a.stderr, "umbra: the server knows no %s: this is what one would be told that brings no groups and policies\n", visible(q.Principal))
	}
	if f.kind != formatTable {
		if err := f.document(a.stdout, raw); err != nil {
			return err
		}
	} else {
		verdict := "denied"
		if answer.Allowed {
			verdict = "allowed"
		}
		fmt.Fprintf(a.stdout, "%s: %s\n", verdict, visible(answer.Reason))
		for _, o := range answer.Others {
			fmt.Fprintf(a.stdout, "  %s statement %d of policy %q does not count: %s\n", o.Effect, o.Statement, o.Policy, visible(o.Reason))
		}
	}
	if !answer.Allowed {
		return errDiffers
	}
	return nil
}

func newAudit(a *app) *cobra.Command {
	var q client.AuditQuery
	cmd := &cobra.Command{
		Use: "audit", Short: "Show what was done and denied, and who could not log in",
		Long: `Show what was done and denied, and who could not log in, the latest first: changes of policies and
credentials, connections that were ended, changes of shadows, requests that were denied, and logins that
failed. Of these PRINCIPAL is who somebody claimed to be. The server has the last ones of each; its setting
"audit-file" keeps more. What was done to a shadow is in its history.`,
		Example: "  umbra audit\n  umbra audit --limit 1000 -o ndjson\n  umbra audit --outcome denied --principal user:alice\n  umbra audit --outcome unauthenticated",
		Args:    arguments(0, 0),
	}
	formatFlag(cmd, formatTable, formatWide, formatJSON, formatYAML, formatNDJSON, formatCSV)
	cmd.Flags().IntVar(&q.Limit, "limit", 100, "show at most `N` records")
	cmd.Flags().StringVar(&q.Outcome, "outcome", "", "show only this `outcome`: done, failed, denied or unauthenticated (logins that failed)")
	cmd.Flags().StringVar(&q.Principal, "principal", "", "show only what the principal with this `ID` did, such as user:alice")
	cmd.Flags().StringVar(&q.Action, "action", "", "show only this `action`, such as umbra:PutPolicy")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		f, err := outputFormat(cmd)
		if err != nil {
			return err
		}
		c, err := a.client()
		if err != nil {
			return err
		}
		records, err := c.Audit(cmd.Context(), q)
		if err != nil {
			return fmt.Errorf("audit: %w", err)
		}
		return a.printAudit(records, f)
	}
	return cmd
}

func (a *app) printAudit(records []client.AuditRecord, f format) error {
	l := a.newList(f, []string{"TIME", "PRINCIPAL", "ACTION", "RESOURCE", "OUTCOME", "DETAIL"}, []string{"CLIENT", "REMOTE"},
		[]string{"time", "principal", "action", "resource", "outcome", "detail", "client_id", "remote"})
	for _, r := range records {
		at := r.Time.In(a.location()).Format(time.RFC3339)
		fields := []string{at, r.Principal, r.Action, r.Resource, r.Outcome, r.Detail, r.ClientID, r.Remote}
		const narrow = 6 // columns without the wide ones
		cells := plainCells(fields)
		cells[narrow-1].long = true // the detail
		doc := object{
			"time": at, "principal": r.Principal, "action": r.Action, "resource": r.Resource, "outcome": r.Outcome,
			"detail": r.Detail, "clientId": r.ClientID, "remote": r.Remote, "traceId": r.TraceID,
		}
		if err := l.add(item{name: r.Resource, doc: doc, cells: cells[:narrow:narrow], more: cells[narrow:], fields: fields}); err != nil {
			return err
		}
	}
	return l.end()
}
