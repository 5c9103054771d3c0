"""Names that more than one dashboard needs, as the collector's Prometheus page has them."""

# The job of the collector's own metrics.
OWN_JOB = "dichroic"
# Requests of every runtime, by the OpenTelemetry semantic conventions.
HTTP = "http_server_request_duration_seconds"
FAILED = 'http_response_status_code=~"5.."'
