// Emits exact numbers with OpenTelemetry's Go SDK: gosdk grpc|http HOST:PORT MILLISECONDS…
package main

import (
	"context"
	"log"
	"os"
	"strconv"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetricgrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/metric"
	sdk "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
)

func exporter(ctx context.Context, protocol, endpoint string) (sdk.Exporter, error) {
	if protocol == "grpc" {
		return otlpmetricgrpc.New(ctx, otlpmetricgrpc.WithEndpoint(endpoint), otlpmetricgrpc.WithInsecure(),
			otlpmetricgrpc.WithCompressor("gzip"))
	}
	return otlpmetrichttp.New(ctx, otlpmetrichttp.WithEndpoint(endpoint), otlpmetrichttp.WithInsecure())
}

func main() {
	ctx := context.Background()
	export, err := exporter(ctx, os.Args[1], os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	who := resource.NewSchemaless(attribute.String("service.name", "go-"+os.Args[1]), attribute.String("service.instance.id", "1"),
		attribute.String("telemetry.sdk.language", "go"))
	provider := sdk.NewMeterProvider(sdk.WithReader(sdk.NewPeriodicReader(export)), sdk.WithResource(who))
	meter := provider.Meter("peers")
	counter, err := meter.Int64Counter("peer.calls", metric.WithUnit("{call}"))
	if err != nil {
		log.Fatal(err)
	}
	histogram, err := meter.Float64Histogram("http.server.request.duration", metric.WithUnit("s"),
		metric.WithExplicitBucketBoundaries(0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10))
	if err != nil {
		log.Fatal(err)
	}
	for _, text := range os.Args[3:] {
		milliseconds, err := strconv.ParseFloat(text, 64)
		if err != nil {
			log.Fatal(err)
		}
		counter.Add(ctx, 1)
		histogram.Record(ctx, milliseconds/1000, metric.WithAttributes(attribute.String("http.route", "/peer")))
	}
	if err := provider.Shutdown(ctx); err != nil {
		log.Fatal(err)
	}
}
