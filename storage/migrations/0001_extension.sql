-- pgvector. Without the right to create it, migrate.py says who must.
CREATE EXTENSION IF NOT EXISTS vector;
