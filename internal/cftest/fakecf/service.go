package fakecf

import (
	"fmt"
	"net"
	"net/rpc"
	"strconv"
	"sync"
)

// PluginMetadata is what a plugin says of itself. gob goes by the names of the fields, and they are
// in the JSON of installed plugins too.
type (
	PluginMetadata struct {
		Name           string
		Version        VersionType
		LibraryVersion VersionType
		MinCliVersion  VersionType
		Commands       []Command
	}
	// VersionType is that of a plugin, or of what it needs.
	VersionType struct{ Major, Minor, Build int }
	// Command is one command of a plugin.
	Command struct {
		Name         string
		Alias        string
		HelpText     string
		UsageDetails Usage
	}
	// Usage is the rest of a command's help.
	Usage struct {
		Usage   string
		Options map[string]string
	}
)

func (v VersionType) String() string {
	if v == (VersionType{}) {
		return "N/A"
	}
	return fmt.Sprintf("%d.%d.%d", v.Major, v.Minor, v.Build)
}

// Organization and Space are answers. What they embed gob knows as a field of the type's name.
type (
	Organization struct{ OrganizationFields }
	// OrganizationFields is what an Organization embeds.
	OrganizationFields struct {
		Guid, Name      string
		QuotaDefinition QuotaFields
	}
	// QuotaFields are never filled in.
	QuotaFields struct {
		Guid, Name  string
		MemoryLimit int64
	}
	Space struct{ SpaceFields }
	// SpaceFields is what a Space embeds.
	SpaceFields struct{ Guid, Name string }
)

// service answers a plugin's questions on a port of 127.0.0.1.
type service struct {
	listener net.Listener
	cmd      *CliRpcCmd
	served   sync.WaitGroup // accept and its connections
	mu       sync.Mutex
	conns    []net.Conn
}

func (c *CF) serve() (*service, error) {
	s := &service{cmd: &CliRpcCmd{path: c.configPath(), trace: c.trace}}
	server := rpc.NewServer()
	if err := server.Register(s.cmd); err != nil {
		return nil, err
	}
	var err error
	if s.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return nil, err
	}
	s.served.Go(func() { s.accept(server) })
	return s, nil
}

func (s *service) accept(server *rpc.Server) {
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		s.conns = append(s.conns, conn)
		s.mu.Unlock()
		s.served.Go(func() { server.ServeConn(conn) })
	}
}

func (s *service) port() string {
	return strconv.Itoa(s.listener.Addr().(*net.TCPAddr).Port)
}

func (s *service) metadata() PluginMetadata {
	s.cmd.mu.Lock()
	defer s.cmd.mu.Unlock()
	return s.cmd.about
}

func (s *service) close() {
	s.listener.Close()
	s.mu.Lock()
	for _, conn := range s.conns {
		conn.Close()
	}
	s.mu.Unlock()
	s.served.Wait()
}

// CliRpcCmd is the service: its methods are what plugins call. One that has no other argument takes a string and ignores it.
type CliRpcCmd struct {
	path  string // of the config
	trace func(text string)
	mu    sync.Mutex
	about PluginMetadata
}

// SetPluginMetadata takes what a plugin says of itself.
func (cmd *CliRpcCmd) SetPluginMetadata(about PluginMetadata, reply *bool) error {
	cmd.mu.Lock()
	defer cmd.mu.Unlock()
	cmd.about = about
	*reply = true
	return nil
}

// AccessToken renews the token and gives it, with its type.
func (cmd *CliRpcCmd) AccessToken(_ string, reply *string) error {
	cmd.mu.Lock()
	defer cmd.mu.Unlock()
	cmd.trace("\nREQUEST: \nPOST /oauth/token HTTP/1.1\n[PRIVATE DATA HIDDEN]\n")
	token, err := refresh(cmd.path)
	*reply = token
	return err
}

// ApiEndpoint is the URL that cf api has set.
func (cmd *CliRpcCmd) ApiEndpoint(_ string, reply *string) error {
	return cmd.read(func(c config) { *reply = c.Target })
}

// HasAPIEndpoint reports whether cf api has set one.
func (cmd *CliRpcCmd) HasAPIEndpoint(_ string, reply *bool) error {
	return cmd.read(func(c config) { *reply = c.Target != "" })
}

// IsSSLDisabled reports whether cf api was told --skip-ssl-validation.
func (cmd *CliRpcCmd) IsSSLDisabled(_ string, reply *bool) error {
	return cmd.read(func(c config) { *reply = c.SSLDisabled })
}

// IsLoggedIn reports whether there is a token.
func (cmd *CliRpcCmd) IsLoggedIn(_ string, reply *bool) error {
	return cmd.read(func(c config) { *reply = c.AccessToken != "" })
}

// HasOrganization reports whether an org is targeted.
func (cmd *CliRpcCmd) HasOrganization(_ string, reply *bool) error {
	return cmd.read(func(c config) { *reply = c.OrganizationFields.GUID != "" && c.OrganizationFields.Name != "" })
}

// HasSpace reports whether a space is targeted.
func (cmd *CliRpcCmd) HasSpace(_ string, reply *bool) error {
	return cmd.read(func(c config) { *reply = c.SpaceFields.GUID != "" && c.SpaceFields.Name != "" })
}

// GetCurrentOrg is the org that is targeted.
func (cmd *CliRpcCmd) GetCurrentOrg(_ string, reply *Organization) error {
	return cmd.read(func(c config) { reply.Guid, reply.Name = c.OrganizationFields.GUID, c.OrganizationFields.Name })
}

// GetCurrentSpace is the space that is targeted.
func (cmd *CliRpcCmd) GetCurrentSpace(_ string, reply *Space) error {
	return cmd.read(func(c config) { reply.Guid, reply.Name = c.SpaceFields.GUID, c.SpaceFields.Name })
}

func (cmd *CliRpcCmd) read(answer func(config)) error {
	cmd.mu.Lock()
	defer cmd.mu.Unlock()
	c, _, err := readConfig(cmd.path)
	if err == nil {
		answer(c)
	}
	return err
}
