"""The news room: what comes in from outside, cleaned, dated and bounded."""
