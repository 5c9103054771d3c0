"""Names shared by the dashboards, as they are on the collector's Prometheus page."""

# The job of the collector's self telemetry.
OWN_JOB = "dichroic"
# Requests of every runtime, by the OpenTelemetry semantic conventions.
HTTP = "http_server_request_duration_seconds"
FAILED = 'http_response_status_code=~"5.."'
