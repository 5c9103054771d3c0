// Emits exact numbers with OpenTelemetry's JavaScript SDK: emit.mjs grpc|proto|json URL MILLISECONDS…
import { resourceFromAttributes } from "@opentelemetry/resources";
import { MeterProvider, PeriodicExportingMetricReader } from "@opentelemetry/sdk-metrics";

const [protocol, url, ...milliseconds] = process.argv.slice(2);
const packages = {
  grpc: "@opentelemetry/exporter-metrics-otlp-grpc",
  proto: "@opentelemetry/exporter-metrics-otlp-proto",
  json: "@opentelemetry/exporter-metrics-otlp-http",
};
const { OTLPMetricExporter } = await import(packages[protocol]);
const exporter = new OTLPMetricExporter({ url: protocol === "grpc" ? url : `${url}/v1/metrics` });
const provider = new MeterProvider({
  resource: resourceFromAttributes({
    "service.name": `node-${protocol}`,
    "service.instance.id": "1",
    "telemetry.sdk.language": "nodejs",
  }),
  readers: [new PeriodicExportingMetricReader({ exporter, exportIntervalMillis: 60_000 })],
});
const meter = provider.getMeter("peers");
const counter = meter.createCounter("peer.calls", { unit: "{call}" });
const histogram = meter.createHistogram("http.server.request.duration", {
  unit: "s",
  advice: { explicitBucketBoundaries: [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10] },
});
for (const text of milliseconds) {
  counter.add(1);
  histogram.record(Number(text) / 1000, { "http.route": "/peer" });
}
await provider.shutdown();
