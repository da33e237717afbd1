-- What a token has seen, when only the token is known.
CREATE INDEX audit_log_reads ON audit_log ((detail ->> 'token'), sequence) WHERE event = 'sensitive_read';
