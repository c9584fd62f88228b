"""Writes the exports beside this file: one request of an agent with two calls of tools, as the OpenTelemetry SDK for Python
sends it to a receiver on this machine.

    pip install opentelemetry-sdk==1.45.2 opentelemetry-exporter-otlp-proto-http==1.45.2
    python3 emit.py

batch.pb.gz is the one export of a batch processor with gzip, single-N.pb those of a simple processor, in their order.
"""

import http.server
import json
import pathlib
import threading

from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.trace import SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

# The example of W3C Trace Context.
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
exports = []


class Receiver(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        exports.append(self.rfile.read(int(self.headers["content-length"])))
        self.send_response(200)
        self.send_header("content-type", "application/x-protobuf")
        self.end_headers()

    def log_message(self, *_):
        pass


def answer(processor):
    """Answers one request with two calls of tools, as an instrumented agent does."""
    provider = TracerProvider(resource=Resource.create({"service.name": "shop-agent"}))
    provider.add_span_processor(processor)
    tracer = provider.get_tracer("shop-agent", "1.0")

    def span(name, attributes, kind=SpanKind.INTERNAL, context=None):
        return tracer.start_as_current_span(name, attributes=attributes, kind=kind, context=context)

    def chat(**more):
        return span("chat m", {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m", **more}, SpanKind.CLIENT)

    def tool(name, call, arguments):
        return span(
            f"execute_tool {name}",
            {
                "gen_ai.operation.name": "execute_tool",
                "gen_ai.tool.name": name,
                "gen_ai.tool.call.id": call,
                "gen_ai.tool.call.arguments": json.dumps(arguments),
            },
        )

    asked = {"type": "tool_call", "id": "call_1", "name": "find_order", "arguments": {"number": "7"}}
    messages = [{"role": "assistant", "parts": [asked], "finish_reason": "tool_call"}]
    parent = TraceContextTextMapPropagator().extract({"traceparent": TRACEPARENT})
    with span("POST /v1/chat/completions", {}, SpanKind.SERVER, parent):
        with span("invoke_agent shop", {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "shop"}):
            with chat(**{"gen_ai.output.messages": json.dumps(messages)}):
                pass
            with tool("find_order", "call_1", {"number": "7"}):
                with span("GET", {"http.request.method": "GET"}, SpanKind.CLIENT):
                    pass
            with chat():
                pass
            with tool("refund", "call_2", {"number": "7", "euros": 48}):
                pass
            with chat():
                pass
    provider.shutdown()


def main():
    server = http.server.HTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/v1/traces"
    here = pathlib.Path(__file__).parent
    answer(BatchSpanProcessor(OTLPSpanExporter(endpoint=url, compression=Compression.Gzip)))
    (here / "batch.pb.gz").write_bytes(exports.pop())
    answer(SimpleSpanProcessor(OTLPSpanExporter(endpoint=url)))
    for at, export in enumerate(exports):
        (here / f"single-{at}.pb").write_bytes(export)


main()
