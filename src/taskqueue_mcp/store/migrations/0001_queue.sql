CREATE TABLE meta (
  name TEXT PRIMARY KEY,
  value TEXT NOT NULL
) {table};

CREATE TABLE principals (
  id {id},
  name TEXT NOT NULL UNIQUE,
  kind TEXT NOT NULL CHECK (kind IN ('person', 'agent', 'service')),
  created_at {integer} NOT NULL
) {table};

CREATE TABLE tokens (
  id {id},
  name TEXT NOT NULL,
  principal TEXT NOT NULL REFERENCES principals (name),
  hash TEXT NOT NULL UNIQUE,
  scopes TEXT NOT NULL,
  created_at {integer} NOT NULL,
  expires_at {integer},
  revoked_at {integer}
) {table};

CREATE UNIQUE INDEX tokens_live_name ON tokens (name) WHERE revoked_at IS NULL;

CREATE TABLE queues (
  name TEXT PRIMARY KEY,
  state TEXT NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'paused', 'draining')),
  open_tasks {integer} NOT NULL DEFAULT 0 CHECK (open_tasks >= 0)
) {table};

CREATE TABLE tasks (
  id {id},
  title TEXT NOT NULL CHECK (title <> ''),
  task_type TEXT NOT NULL,
  executor TEXT NOT NULL,
  queue TEXT NOT NULL,
  priority TEXT NOT NULL CHECK (priority IN ('low', 'medium', 'high', 'urgent')),
  status TEXT NOT NULL CHECK (
    status IN ('pending', 'ready', 'in_progress', 'waiting', 'completed', 'failed', 'cancelled')),
  reason TEXT,
  run_at {integer} NOT NULL,
  sort_at {integer} NOT NULL,
  attempt {integer} NOT NULL DEFAULT 0,
  failures {integer} NOT NULL DEFAULT 0,
  handbacks {integer} NOT NULL DEFAULT 0,
  max_attempts {integer} NOT NULL CHECK (max_attempts > 0),
  blockers {integer} NOT NULL DEFAULT 0 CHECK (blockers >= 0),
  serial_key TEXT,
  worker TEXT,
  lease_principal TEXT,
  lease_hash TEXT,
  lease_expires_at {integer},
  lease_seconds {integer} NOT NULL DEFAULT 0,
  confirmed {integer} NOT NULL DEFAULT 0 CHECK (confirmed IN (0, 1)),
  claim_id TEXT,
  claimed_at {integer},
  parent_id {integer} REFERENCES tasks (id) ON DELETE SET NULL,
  root_id {integer},
  depth {integer} NOT NULL DEFAULT 0 CHECK (depth >= 0),
  children {integer} NOT NULL DEFAULT 0,
  descendants {integer} NOT NULL DEFAULT 0,
  schedule_id {integer},
  due_at {integer},
  created_by TEXT NOT NULL,
  created_at {integer} NOT NULL,
  finished_at {integer},
  idempotency_key TEXT,
  request_hash TEXT,
  progress {real},
  message TEXT,
  question TEXT,
  result_summary TEXT,
  result_path TEXT,
  error TEXT,
  seq {integer} NOT NULL DEFAULT 1,
  CHECK ((status IN ('pending', 'waiting')) = (reason IS NOT NULL)),
  CHECK (status <> 'pending'
         OR reason IN ('scheduled', 'dependency', 'retry', 'snooze', 'quota', 'serial', 'paused')),
  CHECK (status <> 'waiting' OR reason IN ('approval', 'question', 'budget')),
  CHECK ((status = 'in_progress') = (lease_hash IS NOT NULL)),
  CHECK ((lease_hash IS NULL) = (lease_principal IS NULL)),
  CHECK ((lease_hash IS NULL) = (lease_expires_at IS NULL)),
  CHECK ((status IN ('completed', 'failed', 'cancelled')) = (finished_at IS NOT NULL)),
  CHECK (status NOT IN ('ready', 'in_progress') OR blockers = 0),
  CHECK (reason <> 'dependency' OR blockers > 0),
  CHECK (failures <= attempt)
) {table};

CREATE UNIQUE INDEX tasks_one_per_key ON tasks (created_by, idempotency_key)
  WHERE idempotency_key IS NOT NULL;
CREATE UNIQUE INDEX tasks_one_in_line ON tasks (serial_key)
  WHERE serial_key IS NOT NULL AND status IN ('ready', 'in_progress');
CREATE UNIQUE INDEX tasks_one_per_due_time ON tasks (schedule_id, due_at)
  WHERE schedule_id IS NOT NULL AND due_at IS NOT NULL;
CREATE UNIQUE INDEX tasks_one_per_claim ON tasks (lease_principal, claim_id)
  WHERE status = 'in_progress' AND claim_id IS NOT NULL;
CREATE INDEX tasks_ready ON tasks (queue, sort_at, id) WHERE status = 'ready';
CREATE INDEX tasks_ready_by_type ON tasks (queue, task_type, sort_at, id) WHERE status = 'ready';
CREATE INDEX tasks_ready_by_executor ON tasks (queue, executor, sort_at, id) WHERE status = 'ready';
CREATE INDEX tasks_due ON tasks (run_at)
  WHERE status = 'pending' AND reason IN ('scheduled', 'retry', 'snooze', 'quota');
CREATE INDEX tasks_in_line ON tasks (serial_key, sort_at, id)
  WHERE status = 'pending' AND reason = 'serial';
CREATE INDEX tasks_leases ON tasks (lease_expires_at) WHERE status = 'in_progress';
CREATE INDEX tasks_untouched ON tasks (lease_principal, worker)
  WHERE status = 'in_progress' AND confirmed = 0 AND claim_id IS NULL;
CREATE INDEX tasks_finished ON tasks (finished_at) WHERE finished_at IS NOT NULL;
CREATE INDEX tasks_by_status ON tasks (status, id);
CREATE INDEX tasks_by_type ON tasks (task_type, id);
CREATE INDEX tasks_by_queue ON tasks (queue, id);
CREATE INDEX tasks_by_creator ON tasks (created_by, id);
CREATE INDEX tasks_by_schedule ON tasks (schedule_id, id) WHERE schedule_id IS NOT NULL;
CREATE INDEX tasks_by_parent ON tasks (parent_id) WHERE parent_id IS NOT NULL;

CREATE TABLE bodies (
  task_id {integer} PRIMARY KEY REFERENCES tasks (id) ON DELETE CASCADE,
  instructions TEXT NOT NULL,
  params TEXT,
  sop TEXT,
  template TEXT,
  variables TEXT,
  output TEXT,
  tags TEXT,
  requested_by TEXT,
  timeout_seconds {integer},
  budget_usd {real},
  on_dependency_failure TEXT NOT NULL CHECK (on_dependency_failure IN ('fail', 'run')),
  notify TEXT,
  plan TEXT,
  metadata TEXT
) {table};

CREATE INDEX bodies_by_template ON bodies (template, task_id) WHERE template IS NOT NULL;

CREATE TABLE task_tags (
  tag TEXT NOT NULL,
  task_id {integer} NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
  PRIMARY KEY (tag, task_id)
) {keyed_table};

CREATE INDEX task_tags_of_task ON task_tags (task_id);

CREATE TABLE dependencies (
  task_id {integer} NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
  depends_on {integer} NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
  PRIMARY KEY (task_id, depends_on),
  CHECK (task_id <> depends_on)
) {keyed_table};

CREATE INDEX dependencies_of ON dependencies (depends_on);

CREATE TABLE attempts (
  task_id {integer} NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
  attempt {integer} NOT NULL,
  principal TEXT NOT NULL,
  worker TEXT,
  claim_id TEXT,
  salt TEXT NOT NULL,
  lease_hash TEXT NOT NULL,
  claimed_at {integer} NOT NULL,
  ended_at {integer},
  outcome TEXT CHECK (outcome IN (
    'completed', 'failed', 'permanent', 'lost', 'unconfirmed', 'released', 'snoozed', 'quota', 'question',
    'cancelled')),
  settle_hash TEXT,
  update_seq {integer},
  error TEXT,
  result_summary TEXT,
  result_path TEXT,
  result_data TEXT,
  procedure_path TEXT,
  procedure_hash TEXT,
  usage TEXT,
  PRIMARY KEY (task_id, attempt),
  CHECK ((ended_at IS NULL) = (outcome IS NULL))
) {keyed_table};

CREATE UNIQUE INDEX attempts_one_open ON attempts (task_id) WHERE ended_at IS NULL;

CREATE TABLE questions (
  task_id {integer} NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
  number {integer} NOT NULL,
  attempt {integer} NOT NULL,
  kind TEXT NOT NULL CHECK (kind IN ('approval', 'question', 'budget')),
  text TEXT NOT NULL,
  asked_at {integer} NOT NULL,
  answer TEXT,
  answered_by TEXT,
  answered_at {integer},
  PRIMARY KEY (task_id, number),
  CHECK ((answered_at IS NULL) = (answered_by IS NULL))
) {keyed_table};

CREATE TABLE log_chunks (
  task_id {integer} NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
  attempt {integer} NOT NULL,
  number {integer} NOT NULL,
  at {integer} NOT NULL,
  text TEXT NOT NULL,
  PRIMARY KEY (task_id, attempt, number)
) {keyed_table};

CREATE TABLE artifacts (
  id {id},
  task_id {integer} NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
  attempt {integer} NOT NULL,
  path TEXT NOT NULL,
  size {integer},
  sha256 TEXT,
  media_type TEXT,
  created_at {integer} NOT NULL,
  UNIQUE (task_id, attempt, path)
) {table};

CREATE TABLE events (
  position {id},
  subject TEXT NOT NULL CHECK (
    subject IN ('task', 'schedule', 'queue', 'template', 'token', 'gate', 'budget')),
  subject_id {integer} NOT NULL,
  seq {integer} NOT NULL,
  attempt {integer},
  kind TEXT NOT NULL,
  principal TEXT NOT NULL,
  at {integer} NOT NULL,
  data TEXT,
  UNIQUE (subject, subject_id, seq)
) {table};

CREATE TABLE schedules (
  id {id},
  name TEXT NOT NULL,
  cron TEXT NOT NULL,
  timezone TEXT NOT NULL,
  misfire TEXT NOT NULL CHECK (misfire IN ('coalesce', 'skip', 'all')),
  overlap TEXT NOT NULL CHECK (overlap IN ('skip', 'queue_one', 'allow', 'cancel_previous')),
  enabled {integer} NOT NULL CHECK (enabled IN (0, 1)),
  grace_seconds {integer} NOT NULL CHECK (grace_seconds >= 0),
  body TEXT NOT NULL,
  next_due_at {integer},
  standing_task_id {integer},
  last_due_at {integer},
  created_by TEXT NOT NULL,
  created_at {integer} NOT NULL,
  updated_at {integer} NOT NULL,
  resumed_at {integer},
  deleted_at {integer},
  seq {integer} NOT NULL DEFAULT 1
) {table};

CREATE UNIQUE INDEX schedules_live_name ON schedules (name) WHERE deleted_at IS NULL;

CREATE TABLE occurrences (
  schedule_id {integer} NOT NULL REFERENCES schedules (id),
  due_at {integer} NOT NULL,
  fate TEXT NOT NULL CHECK (fate IN ('fired', 'late', 'missed', 'skipped', 'coalesced')),
  reason TEXT,
  task_id {integer},
  recorded_at {integer} NOT NULL,
  PRIMARY KEY (schedule_id, due_at),
  CHECK (fate <> 'skipped' OR reason IS NOT NULL)
) {keyed_table};

CREATE TABLE unclaimed_watch (
  task_id {integer} PRIMARY KEY REFERENCES tasks (id) ON DELETE CASCADE,
  alarm_at {integer} NOT NULL
) {table};

CREATE INDEX unclaimed_watch_alarm ON unclaimed_watch (alarm_at);

CREATE TABLE templates (
  id {id},
  name TEXT NOT NULL UNIQUE,
  description TEXT NOT NULL,
  body TEXT NOT NULL,
  defaults TEXT NOT NULL,
  created_by TEXT NOT NULL,
  created_at {integer} NOT NULL,
  updated_at {integer} NOT NULL,
  seq {integer} NOT NULL DEFAULT 1
) {table};

CREATE TABLE procedure_texts (
  hash TEXT PRIMARY KEY,
  path TEXT NOT NULL,
  text TEXT NOT NULL,
  stored_at {integer} NOT NULL
) {table};
