-- The key without which a token is worth nothing (RFC 9449), by its thumbprint (RFC 7638); '': none.
ALTER TABLE refresh_tokens ADD COLUMN jkt text NOT NULL DEFAULT '';
ALTER TABLE authorization_codes ADD COLUMN jkt text NOT NULL DEFAULT '';
