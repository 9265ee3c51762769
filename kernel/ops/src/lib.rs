//! What every daemon needs: configuration with spans, shell output, tracing, metrics, health, shutdown.
