package main

import (
	"cmp"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/umbra-iot/umbra/internal/client"
)

// who is the flags, variables and settings of a context that say who the operator is.
type who struct {
	User         string `yaml:"user,omitempty"`
	PasswordFile string `yaml:"password-file,omitempty"`
	Token        string `yaml:"token,omitempty"` // or @FILE
	AccessKey    string `yaml:"access-key,omitempty"`
	SecretKey    string `yaml:"secret-key,omitempty"`
	CA           string `yaml:"ca,omitempty"`
	Cert         string `yaml:"cert,omitempty"`
	Key          string `yaml:"key,omitempty"`
}

func (w *who) flags(cmd *cobra.Command) {
	f := cmd.PersistentFlags()
	f.StringVar(&w.User, "user", "", "`name` to log in with (UMBRA_USER; password: UMBRA_PASSWORD, --password-file, or asked for)")
	f.StringVar(&w.PasswordFile, "password-file", "", "`file` with the password")
	f.StringVar(&w.Token, "token", "", "bearer `token`, or @FILE that has it (UMBRA_TOKEN)")
	f.StringVar(&w.AccessKey, "access-key", "", "`id` of an access key (UMBRA_ACCESS_KEY; secret: UMBRA_SECRET_KEY; else AWS_ACCESS_KEY_ID)")
	f.StringVar(&w.CA, "ca", "", "`file` with the authorities of the server (UMBRA_CA)")
	f.StringVar(&w.Cert, "cert", "", "`file` with a client certificate (UMBRA_CERT)")
	f.StringVar(&w.Key, "key", "", "`file` with its private key (UMBRA_KEY)")
}

// isLogin reports whether w says who logs in, beside the connection.
func (w who) isLogin() bool { return w.User != "" || w.Token != "" || w.AccessKey != "" }

// absolute has the names of files begin at the root: they are those of the directory that the operator is in now.
func (w *who) absolute() (err error) {
	if file, ok := strings.CutPrefix(w.Token, "@"); ok {
		if file, err = filepath.Abs(file); err != nil {
			return err
		}
		w.Token = "@" + file
	}
	for _, file := range []*string{&w.PasswordFile, &w.CA, &w.Cert, &w.Key} {
		if *file == "" {
			continue
		}
		if *file, err = filepath.Abs(*file); err != nil {
			return err
		}
	}
	return nil
}

// environment is what variables say.
func (a *app) environment() who {
	return who{
		User: a.getenv("UMBRA_USER"), Token: a.getenv("UMBRA_TOKEN"), AccessKey: a.getenv("UMBRA_ACCESS_KEY"), SecretKey: a.getenv("UMBRA_SECRET_KEY"),
		CA: a.getenv("UMBRA_CA"), Cert: a.getenv("UMBRA_CERT"), Key: a.getenv("UMBRA_KEY"),
	}
}

// credentials are those of the flags, of the environment, of the context and of AWS's variables, the first that
// says who logs in; files of TLS are looked for in each.
func (a *app) credentials(context who) (client.Credentials, error) {
	env := a.environment()
	aws := who{AccessKey: a.getenv("AWS_ACCESS_KEY_ID"), SecretKey: a.getenv("AWS_SECRET_ACCESS_KEY")}
	var c client.Credentials
	for _, from := range []who{a.who, env, context, aws} {
		if from.isLogin() {
			if err := a.login(&c, from); err != nil {
				return c, err
			}
			break
		}
	}
	c.CAFile = cmp.Or(a.who.CA, env.CA, context.CA)
	for _, from := range []who{a.who, env, context} {
		if from.Cert != "" || from.Key != "" {
			c.CertFile, c.KeyFile = from.Cert, from.Key
			break
		}
	}
	return c, nil
}

func (a *app) login(c *client.Credentials, from who) (err error) {
	c.User, c.AccessKey, c.SecretKey = from.User, from.AccessKey, cmp.Or(from.SecretKey, a.getenv("UMBRA_SECRET_KEY"))
	c.Token = from.Token
	if file, ok := strings.CutPrefix(from.Token, "@"); ok {
		if c.Token, err = firstLine(file); err != nil {
			return err
		}
	}
	if c.AccessKey != "" && c.AccessKey == a.getenv("AWS_ACCESS_KEY_ID") {
		c.SecretKey = cmp.Or(from.SecretKey, a.getenv("AWS_SECRET_ACCESS_KEY"))
		c.SessionToken, c.Region = a.getenv("AWS_SESSION_TOKEN"), cmp.Or(a.getenv("AWS_REGION"), a.getenv("AWS_DEFAULT_REGION"))
	}
	if c.User != "" {
		c.Password, err = a.password(cmp.Or(a.who.PasswordFile, from.PasswordFile), "Password: ")
	}
	return err
}

// password reads a password from a file, the environment or the terminal.
func (a *app) password(file, prompt string) (string, error) {
	switch {
	case file != "":
		return firstLine(file)
	case a.getenv("UMBRA_PASSWORD") != "":
		return a.getenv("UMBRA_PASSWORD"), nil
	case a.stdinTerminal:
		return a.ask(prompt)
	}
	return "", usagef("no password: set UMBRA_PASSWORD or --password-file")
}

// ask reads a password from the terminal.
func (a *app) ask(prompt string) (string, error) {
	_, _ = a.stderr.Write([]byte(prompt)) // who does not see it sees nothing else either
	text, err := term.ReadPassword(int(os.Stdin.Fd()))
	_, _ = a.stderr.Write([]byte("\n"))
	return string(text), err
}

func firstLine(file string) (string, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return "", failf(exitUsage, "%w", err)
	}
	line, _, _ := strings.Cut(string(text), "\n")
	return strings.TrimSuffix(line, "\r"), nil
}
