package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/umbra-iot/umbra/internal/pki"
	"github.com/umbra-iot/umbra/shadow"
)

// defaultCADir is where umbra cert keeps the authority.
const defaultCADir = "umbra-ca"

// cert is what the commands of umbra cert share.
type cert struct {
	*app
	dir string
}

func newCert(a *app) *cobra.Command {
	c := &cert{app: a}
	cmd := &cobra.Command{
		Use:   "cert",
		Short: "Issue certificates for devices, by a small authority of your own",
		Long: `Issue certificates for devices, by a small authority of your own.

The authority is a directory: ca.pem (what everybody trusts), ca.key (secret), ca.crl
(what was revoked), and for each name NAME.pem and NAME.key. The files are PEM and are
used as they are by umbrad, mosquitto and the SDKs of AWS. No server is asked.`,
		Example: `  umbra cert init
  umbra cert issue lamp
  umbrad --mqtts :8883 --tls-cert umbra-ca/server.pem --tls-key umbra-ca/server.key \
         --tls-client-ca umbra-ca/ca.pem --tls-crl umbra-ca/ca.crl
  mosquitto_pub -p 8883 --cafile umbra-ca/ca.pem --cert umbra-ca/lamp.pem --key umbra-ca/lamp.key \
         -q 1 -t '$aws/things/lamp/shadow/update' -m '{"state":{"reported":{"on":true}}}'
  umbra cert revoke lamp`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.PersistentFlags().StringVar(&c.dir, "dir", defaultCADir, "`directory` of the authority")
	cmd.AddCommand(newCertInit(c), newCertIssue(c), newCertServer(c), newCertRevoke(c), newCertLs(c))
	return cmd
}

// keyFlag adds --key-type to a command.
func keyFlag(cmd *cobra.Command, key *string) {
	cmd.Flags().StringVar(key, "key-type", string(pki.ECDSA), "`kind` of key: ecdsa (P-256) or rsa")
	mustComplete(cmd, "key-type", []cobra.Completion{string(pki.ECDSA), string(pki.RSA)})
}

func newCertInit(c *cert) *cobra.Command {
	var (
		o     pki.Options
		valid lifetime
		key   string
		hosts []string
	)
	cmd := &cobra.Command{
		Use:     "init",
		Short:   "Make an authority, and a certificate for the server",
		Example: "  umbra cert init\n  umbra cert init --host umbra.example --host 192.0.2.1",
		Args:    arguments(0, 0),
		RunE: func(*cobra.Command, []string) error {
			if err := pki.CheckHosts(hosts); err != nil { // before there is an authority
				return certError(err)
			}
			o.Key, o.Valid, o.Now = pki.Key(key), time.Duration(valid), c.now()
			authority, err := pki.Init(c.dir, o)
			if err != nil {
				return certError(err)
			}
			c.note("authority in %s; keep %s secret", c.dir, filepath.Join(c.dir, pki.CAKey))
			return c.issue(authority, pki.Request{Name: hosts[0], Hosts: hosts, Key: pki.Key(key), Now: c.now()})
		},
	}
	cmd.Flags().StringArrayVar(&hosts, "host", localHosts(), "`name` or address of the server; may be given several times")
	cmd.Flags().StringVar(&o.Name, "name", "Umbra CA", "`name` of the authority")
	lifetimeFlag(cmd, &valid, 20*365*24*time.Hour, "how long the authority is valid")
	keyFlag(cmd, &key)
	return cmd
}

// localHosts are the names of this machine that a server is reached by without further ado.
func localHosts() []string { return []string{"localhost", "127.0.0.1", "::1"} }

func newCertIssue(c *cert) *cobra.Command {
	var (
		r     pki.Request
		valid lifetime
		key   string
	)
	cmd := &cobra.Command{
		Use:     "issue THING",
		Short:   "Issue a certificate for a thing",
		Example: "  umbra cert issue lamp\n  umbra cert issue lamp --force   # a new key; the old certificate goes on to count until it is revoked",
		Args:    arguments(1, 1),
		RunE: func(_ *cobra.Command, args []string) error {
			id := shadow.ID{Thing: args[0]}
			if refusal, ok := errors.AsType[*shadow.Error](id.Validate()); ok {
				return failf(exitInvalid, "%q: %s", args[0], refusal.Message)
			}
			authority, err := pki.Open(c.dir)
			if err != nil {
				return certError(err)
			}
			r.Name, r.Key, r.Valid, r.Now = args[0], pki.Key(key), time.Duration(valid), c.now()
			return c.issue(authority, r)
		},
	}
	cmd.Flags().BoolVar(&r.Force, "force", false, "overwrite the files of an earlier certificate")
	lifetimeFlag(cmd, &valid, 10*365*24*time.Hour, "how long the certificate is valid")
	keyFlag(cmd, &key)
	return cmd
}

func newCertServer(c *cert) *cobra.Command {
	var (
		r     pki.Request
		valid lifetime
		key   string
	)
	cmd := &cobra.Command{
		Use:     "server [HOST]...",
		Short:   "Issue a new certificate for the server",
		Long:    "Issue a new certificate for the server, for its names and addresses; without any for this machine.\numbrad takes it over while it runs.",
		Example: "  umbra cert server umbra.example 192.0.2.1",
		Args:    arguments(0, -1),
		RunE: func(_ *cobra.Command, args []string) error {
			authority, err := pki.Open(c.dir)
			if err != nil {
				return certError(err)
			}
			if len(args) == 0 {
				args = localHosts()
			}
			r.Name, r.Hosts, r.Key, r.Valid, r.Now, r.Force = args[0], args, pki.Key(key), time.Duration(valid), c.now(), true
			return c.issue(authority, r)
		},
	}
	lifetimeFlag(cmd, &valid, 825*24*time.Hour, "how long the certificate is valid")
	keyFlag(cmd, &key)
	return cmd
}

// issue makes a certificate and prints the names of its files.
func (c *cert) issue(authority *pki.Authority, r pki.Request) error {
	issued, err := authority.Issue(r)
	if err != nil {
		return certError(err)
	}
	_, err = fmt.Fprintf(c.stdout, "%s\n%s\n", issued.CertFile, issued.KeyFile)
	return err
}

func newCertRevoke(c *cert) *cobra.Command {
	return &cobra.Command{
		Use:   "revoke THING|SERIAL|ID",
		Short: "Put certificates on the revocation list",
		Long: `Put certificates on the revocation list: all those of a thing, or the one with this serial number or id.
umbrad reads the list (--tls-crl) again within a second, and ends the connections that were made with them.`,
		Example: "  umbra cert revoke lamp",
		Args:    arguments(1, 1),
		RunE: func(_ *cobra.Command, args []string) error {
			authority, err := pki.Open(c.dir)
			if err != nil {
				return certError(err)
			}
			revoked, err := authority.Revoke(args[0], c.now())
			if err != nil {
				return certError(err)
			}
			for _, i := range revoked {
				fmt.Fprintln(c.stdout, i.Serial)
			}
			c.note("%d revoked", len(revoked))
			return nil
		},
	}
}

func newCertLs(c *cert) *cobra.Command {
	return lists(c.app, &cobra.Command{
		Use:     "ls",
		Short:   "List certificates",
		Example: "  umbra cert ls\n  umbra cert ls -o json",
		Args:    arguments(0, 0),
	}, listing[*pki.Issued]{
		titles: []string{"NAME", "STATUS", "UNTIL", "SERIAL"},
		fields: []string{"name", "status", "until", "serial", "id"},
		entries: func(context.Context, []string) ([]*pki.Issued, error) {
			all, err := pki.List(c.dir)
			if err != nil {
				return nil, certError(err)
			}
			return all, nil
		},
		item: func(i *pki.Issued) item {
			status, until := statusOf(i, c.now()), i.NotAfter.UTC().Format(time.RFC3339)
			return item{
				name:   i.Name,
				doc:    object{"name": i.Name, "status": status, "until": until, "serial": i.Serial, "id": i.ID},
				cells:  plainCells([]string{i.Name, status, until, i.Serial}),
				fields: []string{i.Name, status, until, i.Serial, i.ID},
			}
		},
	})
}

func statusOf(i *pki.Issued, now time.Time) string {
	switch {
	case !i.Revoked.IsZero():
		return "revoked"
	case now.After(i.NotAfter):
		return "expired"
	}
	return "valid"
}

// certError gives an error of the authority its exit code.
func certError(err error) error {
	switch {
	case errors.Is(err, pki.ErrUnknown), errors.Is(err, pki.ErrNoKey):
		return failf(exitNotFound, "%w", err)
	case errors.Is(err, os.ErrNotExist):
		return failf(exitNotFound, "%w; 'umbra cert init' makes an authority", err)
	case errors.Is(err, pki.ErrInvalid):
		return failf(exitInvalid, "%w", err)
	case errors.Is(err, pki.ErrExists):
		return failf(exitConflict, "%w", err)
	}
	return err
}
