package portico_test

import (
	"context"
	"errors"
	"net/http"
	"testing"

	"connectrpc.com/connect"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	v1 "portico/clients/go/gen/podium/v1"
	"portico/clients/go/gen/podium/v1/podiumv1connect"
)

// connect-go speaks three protocols; each goes over both versions of HTTP where it can.
func TestConnectGo(t *testing.T) {
	const http1, http2 = 1, 2
	for _, protocol := range []struct {
		name    string
		version int
		options []connect.ClientOption
	}{
		{"connect-http1", http1, nil},
		{"connect-http2", http2, nil},
		{"connect-json-http2", http2, []connect.ClientOption{connect.WithProtoJSON()}},
		{"connect-get-gzip", http1, []connect.ClientOption{connect.WithHTTPGet(), connect.WithSendGzip()}},
		{"grpc", http2, []connect.ClientOption{connect.WithGRPC()}},
		{"grpc-web-http1", http1, []connect.ClientOption{connect.WithGRPCWeb()}},
		{"grpc-web-http2", http2, []connect.ClientOption{connect.WithGRPCWeb()}},
	} {
		t.Run(protocol.name, func(t *testing.T) {
			url := environment(t, "PORTICO_URL")
			walk(t, protocol.name, func(key string) door {
				options := append([]connect.ClientOption{connect.WithInterceptors(bearer(key))}, protocol.options...)
				return connectDoor(httpClient(protocol.version == http2), url, protocol.version == http2, options)
			})
		})
	}
}

func httpClient(h2c bool) *http.Client {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(!h2c)
	protocols.SetUnencryptedHTTP2(h2c)
	return &http.Client{Transport: &http.Transport{Protocols: protocols}}
}

func connectDoor(client *http.Client, url string, duplex bool, options []connect.ClientOption) door {
	health := podiumv1connect.NewHealthServiceClient(client, url, options...)
	keys := podiumv1connect.NewKeysServiceClient(client, url, options...)
	deployments := podiumv1connect.NewDeploymentsServiceClient(client, url, options...)
	instances := podiumv1connect.NewInstancesServiceClient(client, url, options...)
	agent := podiumv1connect.NewAgentServiceClient(client, url, options...)
	opened := door{
		health:         health.GetHealth,
		createKey:      keys.CreateKey,
		listKeys:       keys.ListKeys,
		revokeKey:      keys.RevokeKey,
		getDeployment:  deployments.GetDeployment,
		createInstance: instances.CreateInstance,
		getInstance:    instances.GetInstance,
		deleteInstance: instances.DeleteInstance,
		upload: func(cx context.Context) (clientStream, error) {
			return deployments.UploadDeployment(cx)
		},
		followLogs: func(cx context.Context, request *v1.FollowLogsRequest) (receiver[v1.FollowLogsResponse], error) {
			stream, err := instances.FollowLogs(cx, request)
			return connectLogs{stream}, err
		},
	}
	if duplex {
		opened.attach = func(cx context.Context) (bidiStream, error) { return agent.Attach(cx) }
	}
	return opened
}

// connectLogs gives connect-go's stream the shape of grpc-go's.
type connectLogs struct {
	stream *connect.ServerStreamForClient[v1.FollowLogsResponse]
}

func (logs connectLogs) Receive() (*v1.FollowLogsResponse, error) {
	if !logs.stream.Receive() {
		return nil, errors.Join(errors.New("the log ended"), logs.stream.Err())
	}
	return logs.stream.Msg(), nil
}

// bearer attaches a key to every call; the empty one attaches none.
type bearer string

func (key bearer) attach(header http.Header) {
	if key != "" {
		header.Set("Authorization", "Bearer "+string(key))
	}
}

func (key bearer) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(cx context.Context, request connect.AnyRequest) (connect.AnyResponse, error) {
		key.attach(request.Header())
		return next(cx, request)
	}
}

func (key bearer) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return func(cx context.Context, spec connect.Spec) connect.StreamingClientConn {
		conn := next(cx, spec)
		key.attach(conn.RequestHeader())
		return conn
	}
}

func (key bearer) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return next
}

// codeOf names the code of an error of either library, as Connect spells it.
func codeOf(err error) string {
	var problem *connect.Error
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &problem):
		return problem.Code().String()
	case status.Code(err) == codes.Unauthenticated:
		return connect.CodeUnauthenticated.String()
	case status.Code(err) == codes.PermissionDenied:
		return connect.CodePermissionDenied.String()
	default:
		return status.Code(err).String()
	}
}
