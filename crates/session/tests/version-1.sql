-- A session as version 1 of the file holds it.
pragma journal_mode = wal;
create table meta (name text primary key, value integer not null) without rowid;
insert into meta values ('epoch', 3);
create table entries (
    seq integer primary key, at_ms integer not null, epoch integer not null,
    is_text integer not null, body text not null);
create table receipts (
    number integer primary key autoincrement, key text not null unique,
    digest blob not null, seq integer, problem text);
insert into entries values (1, 1, 1, 0, '{"type": "session_created", "repository": "rep_00000000000000000000000001", "repository_name": "sample", "title": "Written by version 1", "author": {"on_behalf_of": "per_00000000000000000000000001", "via": "person", "name": "Person 1", "email": "p1@example.org"}, "branch": "greenroom/x", "base_branch": "main", "model": null, "budget": {"tokens": 5000000, "cost_microusd": 5000000, "wall_ms": 3600000, "tool_calls": 400}, "image": null}');
insert into entries values (2, 2, 1, 0, '{"type": "prompt_accepted", "prompt": "pmt_00000000000000000000000001", "author": {"on_behalf_of": "per_00000000000000000000000001", "via": "person", "name": "Person 1", "email": "p1@example.org"}, "text": "Say done.", "delivery": "queue"}');
insert into entries values (3, 3, 1, 0, '{"type": "turn_started", "turn": "trn_00000000000000000000000001", "prompts": ["pmt_00000000000000000000000001"]}');
insert into entries values (4, 4, 1, 0, '{"type": "turn_finished", "turn": "trn_00000000000000000000000001", "outcome": {"kind": "completed"}, "usage": {"input_tokens": 1, "output_tokens": 2, "cache_read_tokens": 0, "cache_write_tokens": 0, "cost_microusd": 3, "requests": 1}, "duration_ms": 9}');
insert into receipts (key, digest, seq) values ('first', zeroblob(32), 3);
pragma user_version = 1;
