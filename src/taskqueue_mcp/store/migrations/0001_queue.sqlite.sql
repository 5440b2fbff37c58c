CREATE VIRTUAL TABLE search USING fts5 (
  title, instructions, result, content = '', contentless_delete = 1, tokenize = 'unicode61', prefix = '3'
);

INSERT INTO meta (name, value) VALUES ('epoch', lower(hex(randomblob(8))));
