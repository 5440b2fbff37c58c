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
