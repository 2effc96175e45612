INSERT INTO ledger_requests (request_id, owner, began_at, version, state, tenant, agent, caller_id, model_row, door,
    stream, outcome, ended_at, provider, model, attempts, key_name, trail) VALUES
    ('r1', 'o', 1790000000000, 2000000000, 'settled', 'acme', 'x', NULL, 'default', 'http', true, 'ok', 1790040000000,
    'aws', 'opus', 3, 'k', '[]'),
    ('r2', 'o', 1790086400000, 0, 'open', NULL, NULL, 'mine', 'default', 'http', false, NULL, NULL, NULL, NULL, 0, 'k', '[]');
INSERT INTO ledger_attempts (request_id, number, owner, provider, model, began_at, day, version, state, tenant, agent,
    kind, content, tokens_in, tokens_out, tokens_cached, tokens_reasoning, counted, cost, ms, first_ms, ended_at, key_name, asked_at) VALUES
    ('r1', 1, 'o', 'aws', 'haiku', 1790000000000, '2026-09-21', 2000000000, 'settled', 'acme', 'x', 'timeout', false,
    2, 0, 0, 0, 'estimated', 3, NULL, NULL, 1790000001000, 'k', 1790000000000),
    ('r1', 2, 'o', 'aws', 'haiku', 1790000001000, '2026-09-21', 2000000000, 'settled', 'acme', 'x', 'throttled', false,
    0, 0, 0, 0, 'none', 0, 12.5, NULL, 1790000002000, 'k', 1790000000000),
    ('r1', 3, 'o', 'aws', 'opus', 1790036400000, '2026-09-22', 2000000000, 'settled', 'acme', 'x', 'ok', true,
    4, 3, 0, 0, 'provider', 6, 500.25, 100.5, 1790040000000, 'k', 1790000000000),
    ('r2', 1, 'o', 'openai', 'gpt', 1790086400000, '2026-09-22', 1000000000, 'lost', NULL, NULL, 'lost', false,
    0, 0, 0, 0, 'none', NULL, NULL, NULL, 1790086401000, 'k', 1790086400000);
INSERT INTO ledger_days VALUES
    ('45da172494c7f00eec20428ea23370b4', '2026-09-21', 'acme', 'x', 'k', NULL, NULL, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
    ('b6899202204613037cb1471067b9f368', '2026-09-21', 'acme', 'x', 'k', 'aws', 'haiku', 0, 0, 1, 1, 1, 2, 0, 0, 2,
    0, 0, 2, 0, 0, 0, 1, 0, 3, 0, 0, 0, 0),
    ('d84b973a9f92de6fd3d833f859934524', '2026-09-21', 'acme', 'x', 'k', 'aws', 'opus', 0, 0, 1, 0, 1, 1, 1, 0, 0,
    0, 0, 4, 3, 0, 0, 0, 0, 6, 1, 500250, 1, 100500),
    ('1cdb88c07f582e3b163c4f7accc2c4e5', '2026-09-22', NULL, NULL, 'k', NULL, NULL, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
    ('f6a782f94761fcd3c4c80bbc74147c74', '2026-09-22', NULL, NULL, 'k', 'openai', 'gpt', 0, 0, 1, 1, 1, 1, 0, 0, 0,
    1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0);
INSERT INTO ledger_totals VALUES
    ('2c9372b0cd5c62fbadf0a45541dfcc6e', 'target', '2026-09-21', NULL, NULL, NULL, 'aws', 'opus', 0, 0, 1, 0, 1, 1,
    1, 0, 0, 0, 0, 4, 3, 0, 0, 0, 0, 6, 1, 500250, 1, 100500),
    ('2d5a038af0c17b249de3618485b2c233', 'agent', '2026-09-21', NULL, 'x', NULL, NULL, NULL, 1, 1, 2, 1, 2, 3, 1, 0,
    2, 0, 0, 6, 3, 0, 0, 1, 0, 9, 1, 500250, 1, 100500),
    ('35e1b9c14ad0a4b224d099170b864fde', 'key', '2026-09-21', 'acme', NULL, 'k', NULL, NULL, 1, 1, 2, 1, 2, 3, 1, 0,
    2, 0, 0, 6, 3, 0, 0, 1, 0, 9, 1, 500250, 1, 100500),
    ('ae9e59096718064e548f2567b9ea3e4d', 'target', '2026-09-21', NULL, NULL, NULL, 'aws', 'haiku', 0, 0, 1, 1, 1, 2,
    0, 0, 2, 0, 0, 2, 0, 0, 0, 1, 0, 3, 0, 0, 0, 0),
    ('0e0f2e47d5a98b387f4ce0e56e0cfc56', 'target', '2026-09-22', NULL, NULL, NULL, 'openai', 'gpt', 0, 0, 1, 1, 1,
    1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0),
    ('71fddcc69529042d691fdaf4c7191a76', 'key', '2026-09-22', NULL, NULL, 'k', NULL, NULL, 1, 0, 1, 1, 1, 1, 0, 0,
    0, 1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0),
    ('85f584ec7fa6be68019f3d8028710afc', 'agent', '2026-09-22', NULL, NULL, NULL, NULL, NULL, 1, 0, 1, 1, 1, 1, 0,
    0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0);
