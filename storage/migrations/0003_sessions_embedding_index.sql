-- krin: no-transaction
CREATE INDEX CONCURRENTLY IF NOT EXISTS idx_sessions_embedding ON ai_enhanced_sessions
USING ivfflat (embedding vector_cosine_ops);
