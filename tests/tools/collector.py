"""A collector of traces: takes OTLP over HTTP, decodes it with the messages of opentelemetry-proto, and prints its port and
then each span as one line of JSON."""

import json
from http.server import BaseHTTPRequestHandler, HTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)


class Collector(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        wanted = self.path == "/v1/traces" and self.headers["content-type"] == "application/x-protobuf"
        request = ExportTraceServiceRequest.FromString(body)
        for resource in request.resource_spans if wanted else []:
            about = texts(resource.resource.attributes)
            for span in (span for scope in resource.scope_spans for span in scope.spans):
                seen = {
                    "resource": about,
                    "trace": span.trace_id.hex(),
                    "parent": span.parent_span_id.hex(),
                    "name": span.name,
                    "kind": span.kind,
                    "status": span.status.code,
                    "attributes": texts(span.attributes),
                    "nanos": span.end_time_unix_nano - span.start_time_unix_nano,
                }
                print(json.dumps(seen), flush=True)
        answer = ExportTraceServiceResponse().SerializeToString()
        self.send_response(200 if wanted else 400)
        self.send_header("content-type", "application/x-protobuf")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


def texts(attributes):
    return {attribute.key: attribute.value.string_value for attribute in attributes}


server = HTTPServer(("127.0.0.1", 0), Collector)
print(server.server_port, flush=True)
server.serve_forever()
