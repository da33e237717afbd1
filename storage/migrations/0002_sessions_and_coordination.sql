-- AI-enhanced user sessions.
CREATE TABLE ai_enhanced_sessions (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id UUID NOT NULL,
    session_data JSONB NOT NULL,
    ai_insights JSONB,
    embedding vector(1536), -- OpenAI embeddings
    created_at TIMESTAMP WITH TIME ZONE DEFAULT NOW(),
    expires_at TIMESTAMP WITH TIME ZONE NOT NULL,
    embedding_model TEXT -- vectors of two models must never be compared
);

-- The sweep of expired sessions.
CREATE INDEX ai_enhanced_sessions_expires_at ON ai_enhanced_sessions (expires_at);

-- AI team coordination logs.
CREATE TABLE specialist_coordination (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    project_id UUID NOT NULL,
    specialist_type VARCHAR(100) NOT NULL,
    action_type VARCHAR(100) NOT NULL,
    context JSONB NOT NULL,
    ai_analysis JSONB,
    performance_metrics JSONB,
    timestamp TIMESTAMP WITH TIME ZONE DEFAULT NOW()
);

-- A project's page, in the order it is read: the id settles equal times.
CREATE INDEX specialist_coordination_page ON specialist_coordination (project_id, timestamp, id);
