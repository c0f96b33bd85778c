package portico_test

import (
	"context"
	"net/url"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	v1 "portico/clients/go/gen/podium/v1"
)

func TestGrpcGo(t *testing.T) {
	address, err := url.Parse(environment(t, "PORTICO_URL"))
	must(t, "parse PORTICO_URL", err)
	walk(t, "grpc-go", func(key string) door {
		conn, err := grpc.NewClient(address.Host,
			grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithPerRPCCredentials(bearerCredentials(key)))
		must(t, "make a gRPC client", err)
		t.Cleanup(func() { must(t, "close the gRPC client", conn.Close()) })
		return grpcDoor(conn)
	})
}

func grpcDoor(conn *grpc.ClientConn) door {
	keys := v1.NewKeysServiceClient(conn)
	deployments := v1.NewDeploymentsServiceClient(conn)
	instances := v1.NewInstancesServiceClient(conn)
	agent := v1.NewAgentServiceClient(conn)
	return door{
		health:         plain(v1.NewHealthServiceClient(conn).GetHealth),
		createKey:      plain(keys.CreateKey),
		listKeys:       plain(keys.ListKeys),
		revokeKey:      plain(keys.RevokeKey),
		getDeployment:  plain(deployments.GetDeployment),
		createInstance: plain(instances.CreateInstance),
		getInstance:    plain(instances.GetInstance),
		deleteInstance: plain(instances.DeleteInstance),
		upload: func(cx context.Context) (clientStream, error) {
			stream, err := deployments.UploadDeployment(cx)
			return grpcUpload{stream}, err
		},
		followLogs: func(cx context.Context, request *v1.FollowLogsRequest) (receiver[v1.FollowLogsResponse], error) {
			stream, err := instances.FollowLogs(cx, request)
			return grpcLogs{stream}, err
		},
		attach: func(cx context.Context) (bidiStream, error) {
			stream, err := agent.Attach(cx)
			return grpcAttach{stream}, err
		},
	}
}

// plain drops grpc-go's call options from a method.
func plain[Q, R any](
	method func(context.Context, *Q, ...grpc.CallOption) (*R, error),
) func(context.Context, *Q) (*R, error) {
	return func(cx context.Context, request *Q) (*R, error) { return method(cx, request) }
}

// The three streams, with connect-go's names for what they do.
type (
	grpcUpload struct {
		grpc.ClientStreamingClient[v1.UploadDeploymentRequest, v1.UploadDeploymentResponse]
	}
	grpcLogs struct {
		grpc.ServerStreamingClient[v1.FollowLogsResponse]
	}
	grpcAttach struct {
		grpc.BidiStreamingClient[v1.AttachRequest, v1.AttachResponse]
	}
)

func (s grpcUpload) CloseAndReceive() (*v1.UploadDeploymentResponse, error) { return s.CloseAndRecv() }
func (s grpcLogs) Receive() (*v1.FollowLogsResponse, error)                 { return s.Recv() }
func (s grpcAttach) Receive() (*v1.AttachResponse, error)                   { return s.Recv() }
func (s grpcAttach) CloseRequest() error                                    { return s.CloseSend() }

// bearerCredentials attaches a key to every call, also without TLS: the gateway is on the loopback. The empty one
// attaches none.
type bearerCredentials string

func (key bearerCredentials) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	if key == "" {
		return nil, nil
	}
	return map[string]string{"authorization": "Bearer " + string(key)}, nil
}

func (bearerCredentials) RequireTransportSecurity() bool { return false }
