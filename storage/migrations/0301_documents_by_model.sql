-- How many documents have a vector of which model, without reading the vectors.
CREATE INDEX documents_model ON documents (embedding_model);
