package main

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/umbra-iot/umbra/internal/atomicfile"
	"github.com/umbra-iot/umbra/internal/auth/credential"
	"github.com/umbra-iot/umbra/internal/client"
	"github.com/umbra-iot/umbra/internal/filelock"
)

// Kinds of credentials.
const (
	users  = "users"
	keys   = "keys"
	tokens = "tokens"
)

// vault is where credentials are kept: by the server in its store, or in a file.
type vault interface {
	Credentials(ctx context.Context, kind string) ([]client.Credential, error)
	AddUser(ctx context.Context, name string, r client.CredentialRequest) error // a *client.Error with status 412 when there is one
	PutUser(ctx context.Context, name string, r client.CredentialRequest) error
	MakeCredential(ctx context.Context, kind string, r client.CredentialRequest) (id, secret string, err error)
	DeleteCredential(ctx context.Context, kind, id string) error
}

// credentials is what the commands for users, keys and tokens share.
type credentials struct {
	*app
	kind, file string
	request    client.CredentialRequest
	valid      lifetime
}

func (c *credentials) vault() (vault, error) {
	if c.file != "" {
		return fileVault(c.file), nil
	}
	return c.client()
}

const credentialHelp = `

They are kept by the server, for all nodes of its store, or with --file in a file
that umbrad reads (--users): it needs no server, so the first ones are made there.
umbrad takes changes over within a second and ends the connections of those who
do not count any more.`

// grantFlags adds what a credential brings to a command.
func (c *credentials) grantFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringSliceVar(&c.request.Groups, "group", nil, "`group` to belong to; may be given several times")
	f.StringSliceVar(&c.request.Policies, "policy", nil, "`policy` that counts; may be given several times")
	lifetimeFlag(cmd, &c.valid, 0, "how long it counts, such as 720h; without it for ever")
}

// made completes the request.
func (c *credentials) made() client.CredentialRequest {
	r := c.request
	if c.valid > 0 {
		r.Expires = c.now().Add(time.Duration(c.valid)).UTC().Truncate(time.Second)
	}
	return r
}

func (c *credentials) group(cmd *cobra.Command, sub ...*cobra.Command) *cobra.Command {
	cmd.Long = cmd.Short + "." + credentialHelp
	cmd.Args = cobra.NoArgs
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	cmd.PersistentFlags().StringVar(&c.file, "file", "", "`file` that has them; without it the server")
	cmd.AddCommand(append(sub, c.newLs(cmd.Name()))...)
	return cmd
}

func newUser(a *app) *cobra.Command {
	c := &credentials{app: a, kind: users}
	return c.group(&cobra.Command{
		Use: "user", Short: "Manage users with passwords",
		Example: "  umbra user add alice --group admin --file users.yaml\n  umbra user passwd alice\n  umbra user rm alice",
	}, c.newUserAdd(), c.newUserPasswd(), c.newRm("user"))
}

func newKey(a *app) *cobra.Command {
	c := &credentials{app: a, kind: keys}
	return c.group(&cobra.Command{
		Use: "key", Short: "Manage access keys, for the CLI and the SDKs of AWS",
		Example: "  umbra key add backend --policy app\n  umbra key rm AKIAEXAMPLE",
	}, c.newMake("key", "backend --policy app", "Prints the id and the secret, which is shown this once."), c.newRm("key"))
}

func newToken(a *app) *cobra.Command {
	c := &credentials{app: a, kind: tokens}
	return c.group(&cobra.Command{
		Use: "token", Short: "Manage bearer tokens, for programs",
		Example: "  umbra token add ci --policy operator --valid 720h\n  umbra token rm 0123456789abcdef",
	}, c.newMake("token", "ci --policy operator --valid 720h", "Prints the id and the token, which is shown this once."), c.newRm("token"))
}

func (c *credentials) newUserAdd() *cobra.Command {
	cmd := &cobra.Command{
		Use: "add NAME", Short: "Add a user",
		Long:    "Add a user. The password comes from --new-password-file, or is asked for.",
		Example: "  umbra user add alice --group admin --new-password-file pw",
		Args:    arguments(1, 1),
	}
	file := cmd.Flags().String("new-password-file", "", "`file` with the password of the user")
	c.grantFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		v, err := c.vault()
		if err != nil {
			return err
		}
		r := c.made()
		if r.Password, err = c.newPassword(*file); err != nil {
			return err
		}
		err = v.AddUser(cmd.Context(), args[0], r)
		if e, ok := errors.AsType[*client.Error](err); ok && e.Status == http.StatusPreconditionFailed {
			return failf(exitConflict, "there is a user %s already; 'umbra user passwd' changes the password", args[0])
		}
		return err
	}
	return cmd
}

func (c *credentials) newUserPasswd() *cobra.Command {
	cmd := &cobra.Command{
		Use: "passwd NAME", Short: "Change the password of a user",
		Example: "  umbra user passwd alice --new-password-file pw",
		Args:    arguments(1, 1),
	}
	file := cmd.Flags().String("new-password-file", "", "`file` with the password of the user")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		v, err := c.vault()
		if err != nil {
			return err
		}
		list, err := v.Credentials(cmd.Context(), users)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(list, func(u client.Credential) bool { return u.ID == args[0] }) {
			return failf(exitNotFound, "there is no user %s", args[0])
		}
		var r client.CredentialRequest
		if r.Password, err = c.newPassword(*file); err != nil {
			return err
		}
		return v.PutUser(cmd.Context(), args[0], r)
	}
	return cmd
}

// newPassword reads the password that a user is to have.
func (c *credentials) newPassword(file string) (string, error) {
	if file != "" {
		return firstLine(file)
	}
	if !c.stdinTerminal {
		return "", usagef("no password for the user: --new-password-file")
	}
	first, err := c.ask("New password: ")
	if err != nil {
		return "", err
	}
	second, err := c.ask("The same again: ")
	if err != nil {
		return "", err
	}
	if first != second {
		return "", failf(exitInvalid, "the passwords differ")
	}
	return first, nil
}

// newMake is the command that makes a key or token up.
func (c *credentials) newMake(name, example, long string) *cobra.Command {
	cmd := &cobra.Command{
		Use: "add [NAME]", Short: "Make a new " + name, Long: "Make a new " + name + ". " + long,
		Example: "  umbra " + name + " add " + example,
		Args:    arguments(0, 1),
	}
	c.grantFlags(cmd)
	if c.kind == tokens {
		cmd.Flags().StringSliceVar(&c.request.Scopes, "scope", nil, "`pattern` of actions that the token is confined to, such as iot:*; may be given several times")
	}
	formatFlag(cmd, formatTable, formatJSON)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		f, err := outputFormat(cmd)
		if err != nil {
			return err
		}
		v, err := c.vault()
		if err != nil {
			return err
		}
		if cmd.Flags().Changed("scope") && len(c.request.Scopes) == 0 {
			return usagef("--scope is empty: a token without any is not confined")
		}
		r := c.made()
		r.Name = strings.Join(args, "")
		id, secret, err := v.MakeCredential(cmd.Context(), c.kind, r)
		if err != nil {
			return err
		}
		if f.kind != formatTable {
			return f.document(c.stdout, encodeJSON(object{"id": id, "secret": secret}))
		}
		l := c.newList(f, []string{"ID", "SECRET"}, nil, nil)
		if err := l.add(item{cells: []cell{{text: id}, {text: secret}}}); err != nil {
			return err
		}
		return l.end()
	}
	return cmd
}

func (c *credentials) newRm(name string) *cobra.Command {
	return &cobra.Command{
		Use: "rm ID", Short: "Remove one, and end its connections",
		Example: "  umbra " + name + " rm " + map[string]string{users: "alice", keys: "AKIAEXAMPLE", tokens: "0123456789abcdef"}[c.kind],
		Args:    arguments(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			v, err := c.vault()
			if err != nil {
				return err
			}
			return v.DeleteCredential(cmd.Context(), c.kind, args[0])
		},
	}
}

func (c *credentials) newLs(name string) *cobra.Command {
	return lists(c.app, &cobra.Command{
		Use: "ls", Short: "List them, without what proves them",
		Example: "  umbra " + name + " ls -o json",
		Args:    arguments(0, 0),
	}, listing[client.Credential]{
		titles: []string{"ID", "NAME", "GROUPS", "POLICIES", "UNTIL"},
		fields: []string{"id", "name", "groups", "policies", "until"},
		entries: func(ctx context.Context, _ []string) ([]client.Credential, error) {
			v, err := c.vault()
			if err != nil {
				return nil, err
			}
			return v.Credentials(ctx, c.kind)
		},
		item: func(u client.Credential) item {
			until := ""
			if !u.Expires.IsZero() {
				until = u.Expires.UTC().Format(time.RFC3339)
			}
			fields := []string{u.ID, u.Name, strings.Join(u.Groups, ","), strings.Join(u.Policies, ","), until}
			doc := object{"id": u.ID, "name": u.Name, "groups": anys(u.Groups), "policies": anys(u.Policies), "scopes": anys(u.Scopes), "until": until}
			return item{name: u.ID, doc: doc, cells: plainCells(fields), fields: fields}
		},
	})
}

func anys(list []string) []any {
	out := make([]any, len(list))
	for i, s := range list {
		out[i] = s
	}
	return out
}

// fileVault is credentials in a file of this name.
type fileVault string

// Credentials implements vault.
func (v fileVault) Credentials(_ context.Context, kind string) ([]client.Credential, error) {
	f, err := credential.ReadFile(string(v))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, failf(exitInvalid, "%w", err)
	}
	var list []client.Credential
	add := func(id, name string, g credential.Grant, scopes []string) {
		list = append(list, client.Credential{ID: id, Name: name, Groups: g.Groups, Policies: g.Policies, Scopes: scopes, Expires: g.Expires})
	}
	switch kind {
	case users:
		for _, name := range slices.Sorted(maps.Keys(f.Users)) {
			add(name, "", f.Users[name].Grant, nil)
		}
	case keys:
		for _, id := range slices.Sorted(maps.Keys(f.Keys)) {
			add(id, f.Keys[id].Name, f.Keys[id].Grant, nil)
		}
	case tokens:
		for _, id := range slices.Sorted(maps.Keys(f.Tokens)) {
			add(id, f.Tokens[id].Name, f.Tokens[id].Grant, f.Tokens[id].Scopes)
		}
	}
	return list, nil
}

// edit changes the file, unless change fails. It waits for other processes that change it, by whatever link.
func (v fileVault) edit(change func(*credential.File) error) error {
	name, err := atomicfile.Target(string(v))
	if err != nil {
		return err
	}
	unlock, err := filelock.Lock(name)
	if err != nil {
		return err
	}
	defer unlock()
	f, err := credential.ReadFile(name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return failf(exitInvalid, "%w", err)
	}
	if err := change(f); err != nil {
		return err
	}
	return f.Write(name)
}

func grantOf(r client.CredentialRequest) credential.Grant {
	return credential.Grant{Groups: r.Groups, Policies: r.Policies, Expires: r.Expires}
}

// AddUser implements vault.
func (v fileVault) AddUser(_ context.Context, name string, r client.CredentialRequest) error {
	return v.putUser(name, r, true)
}

// PutUser implements vault.
func (v fileVault) PutUser(_ context.Context, name string, r client.CredentialRequest) error {
	return v.putUser(name, r, false)
}

func (v fileVault) putUser(name string, r client.CredentialRequest, fresh bool) error {
	if err := credential.CheckName(name); err != nil {
		return failf(exitInvalid, "%w", err)
	}
	return v.edit(func(f *credential.File) error {
		u, ok := f.Users[name]
		if ok && fresh {
			return &client.Error{Status: http.StatusPreconditionFailed, Message: "The user is there"}
		}
		if !ok {
			u.Grant = grantOf(r)
		}
		if err := u.SetPassword([]byte(r.Password)); err != nil {
			return failf(exitInvalid, "%w", err)
		}
		f.Users = with(f.Users, name, u)
		return nil
	})
}

// MakeCredential implements vault.
func (v fileVault) MakeCredential(_ context.Context, kind string, r client.CredentialRequest) (id, secret string, err error) {
	err = v.edit(func(f *credential.File) error {
		if kind == keys {
			var k credential.AccessKey
			id, k = credential.NewAccessKey(r.Name, grantOf(r))
			secret, f.Keys = k.Secret, with(f.Keys, id, k)
			return nil
		}
		var t credential.Token
		id, secret, t = credential.NewToken(r.Name, r.Scopes, grantOf(r))
		f.Tokens = with(f.Tokens, id, t)
		return nil
	})
	return id, secret, err
}

// DeleteCredential implements vault.
func (v fileVault) DeleteCredential(_ context.Context, kind, id string) error {
	return v.edit(func(f *credential.File) error {
		ok := false
		switch kind {
		case users:
			_, ok = f.Users[id]
			delete(f.Users, id)
		case keys:
			_, ok = f.Keys[id]
			delete(f.Keys, id)
		case tokens:
			_, ok = f.Tokens[id]
			delete(f.Tokens, id)
		}
		if !ok {
			return failf(exitNotFound, "there is no %s in %s", id, string(v))
		}
		return nil
	})
}

func with[T any](m map[string]T, key string, v T) map[string]T {
	if m == nil {
		m = map[string]T{}
	}
	m[key] = v
	return m
}
