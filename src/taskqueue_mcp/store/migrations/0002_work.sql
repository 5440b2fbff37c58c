ALTER TABLE attempts ADD COLUMN verdict TEXT;

ALTER TABLE bodies ADD COLUMN trust TEXT CHECK (trust IN ('owner', 'agent', 'external'));

ALTER TABLE bodies ADD COLUMN rights TEXT;

ALTER TABLE bodies ADD COLUMN approval TEXT;

ALTER TABLE questions ADD COLUMN approves TEXT;

ALTER TABLE schedules ADD COLUMN rights TEXT;

ALTER TABLE schedules ADD COLUMN trust TEXT CHECK (trust IN ('owner', 'agent', 'external'));

ALTER TABLE schedules ADD COLUMN approved TEXT;

UPDATE schedules SET rights = '*';
