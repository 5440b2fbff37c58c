ALTER TABLE attempts ADD COLUMN verdict TEXT;

ALTER TABLE bodies ADD COLUMN trust TEXT CHECK (trust IN ('owner', 'agent', 'external'));

ALTER TABLE bodies ADD COLUMN rights TEXT;

ALTER TABLE bodies ADD COLUMN approval TEXT;

ALTER TABLE questions ADD COLUMN approves TEXT;

ALTER TABLE schedules ADD COLUMN rights TEXT;

ALTER TABLE schedules ADD COLUMN trust TEXT CHECK (trust IN ('owner', 'agent', 'external'));

ALTER TABLE schedules ADD COLUMN approved TEXT;

UPDATE schedules SET rights = '*';

ALTER TABLE attempts ADD COLUMN baseline TEXT;

ALTER TABLE tasks ADD COLUMN expects {integer} NOT NULL DEFAULT 0;

ALTER TABLE tasks ADD COLUMN verdict TEXT CHECK (verdict IN ('verified', 'unverified', 'rejected'));

ALTER TABLE bodies ADD COLUMN outputs TEXT;

ALTER TABLE artifacts ADD COLUMN stored TEXT;

ALTER TABLE bodies ADD COLUMN budget TEXT;

CREATE TABLE gates (
  id {id},
  account TEXT NOT NULL,
  executor TEXT NOT NULL,
  closed_at {integer},
  closed_until {integer},
  strangers_from {integer},
  reason TEXT,
  waits {integer} NOT NULL DEFAULT 0 CHECK (waits >= 0),
  probe TEXT,
  UNIQUE (account, executor),
  CHECK ((closed_until IS NULL) = (closed_at IS NULL)),
  CHECK ((closed_until IS NULL) = (strangers_from IS NULL))
) {table};

CREATE INDEX gates_closed ON gates (executor) WHERE closed_until IS NOT NULL;

CREATE TABLE worker_accounts (
  principal TEXT NOT NULL,
  worker TEXT NOT NULL,
  executor TEXT NOT NULL,
  account TEXT NOT NULL,
  reported_at {integer} NOT NULL,
  PRIMARY KEY (principal, worker, executor)
) {keyed_table};

CREATE TABLE gate_passes (
  task_id {integer} PRIMARY KEY REFERENCES tasks (id) ON DELETE CASCADE
) {table};

CREATE TABLE spending (
  id {id},
  account TEXT NOT NULL UNIQUE,
  scope TEXT NOT NULL CHECK (scope IN ('day', 'queue', 'schedule', 'task')),
  name TEXT NOT NULL,
  day {integer} NOT NULL,
  unit TEXT NOT NULL CHECK (unit IN ('usd', 'turns', 'minutes')),
  ceiling {integer} CHECK (ceiling >= 0),
  raised {integer} NOT NULL DEFAULT 0 CHECK (raised >= 0),
  reserved {integer} NOT NULL DEFAULT 0 CHECK (reserved >= 0),
  spent {integer} NOT NULL DEFAULT 0 CHECK (spent >= 0),
  used_up {integer} NOT NULL DEFAULT 0 CHECK (used_up IN (0, 1)),
  asked_task {integer}
) {table};

CREATE INDEX spending_by_day ON spending (day, scope);
CREATE INDEX spending_used_up ON spending (day) WHERE used_up = 1;

CREATE TABLE reservations (
  task_id {integer} NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
  unit TEXT NOT NULL CHECK (unit IN ('usd', 'turns', 'minutes')),
  attempt {integer} NOT NULL,
  day {integer} NOT NULL,
  amount {integer} NOT NULL CHECK (amount >= 0),
  accounts TEXT NOT NULL,
  PRIMARY KEY (task_id, unit)
) {keyed_table};

CREATE TABLE unpaid (
  task_id {integer} PRIMARY KEY REFERENCES tasks (id) ON DELETE CASCADE,
  account TEXT NOT NULL,
  need {integer} NOT NULL CHECK (need >= 0),
  run_at {integer} NOT NULL,
  due_again_at {integer},
  asked {integer} NOT NULL CHECK (asked IN (0, 1))
) {table};

CREATE INDEX unpaid_due ON unpaid (due_again_at) WHERE due_again_at IS NOT NULL;
CREATE INDEX unpaid_by_account ON unpaid (account, run_at, task_id);

ALTER TABLE bodies ADD COLUMN only_if TEXT;
