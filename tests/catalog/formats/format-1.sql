PRAGMA page_size=16384;
PRAGMA journal_mode=WAL;
BEGIN TRANSACTION;
CREATE TABLE content (
	id INTEGER NOT NULL, 
	sha256 TEXT NOT NULL, 
	bytes INTEGER NOT NULL, 
	width INTEGER NOT NULL, 
	height INTEGER NOT NULL, 
	format TEXT NOT NULL, 
	taken_at TEXT, 
	camera TEXT, 
	lens TEXT, 
	lat REAL, 
	lon REAL, 
	iso INTEGER, 
	f_number REAL, 
	exposure REAL, 
	focal_length REAL, 
	rating INTEGER, 
	title TEXT, 
	description TEXT, 
	keywords TEXT, 
	PRIMARY KEY (id), 
	UNIQUE (sha256)
);
INSERT INTO "content" VALUES(1,'38143fc816554110435b788eeec987a5984f58e33b808259b2b9007012d68ef7',1000,4,3,'JPEG','2019-05-01T12:00:00',NULL,'RF 50mm',1.5,2.5,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'["cat", "dog"]');
INSERT INTO "content" VALUES(2,'a7b6a3e78d1944a833349916158076a1c06a69fa5ebc4cfb9f3244f81fe30546',1000,640,480,'JPEG',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
CREATE TABLE embedding (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	content_id INTEGER NOT NULL, 
	model_id INTEGER NOT NULL, 
	part INTEGER DEFAULT 0 NOT NULL, 
	at TEXT, 
	vector BLOB NOT NULL, 
	UNIQUE (content_id, model_id, part), 
	FOREIGN KEY(content_id) REFERENCES content (id), 
	FOREIGN KEY(model_id) REFERENCES model (id)
);
INSERT INTO "embedding" VALUES(1,1,1,0,NULL,X'E4AD4B365032BE3007B0DB2B6B2FD131C1B7F634CEB3D6B0F035722E11AC0F3079B1C6A6052EA7B24598D02F0BAF77B0');
INSERT INTO "embedding" VALUES(2,2,1,0,NULL,X'55B087AC80A75BB0E9262F36DFAF7835C732D7AE2235B21C0FB0EF335632A9B114AC29B34DAFC2B43731BCB1F22D1836');
CREATE TABLE file (
	id INTEGER NOT NULL, 
	path TEXT NOT NULL, 
	content_id INTEGER, 
	size INTEGER NOT NULL, 
	mtime_ns INTEGER NOT NULL, 
	root TEXT NOT NULL, 
	error TEXT, 
	PRIMARY KEY (id), 
	CONSTRAINT content_or_error CHECK ((content_id IS NULL) <> (error IS NULL)), 
	UNIQUE (path), 
	FOREIGN KEY(content_id) REFERENCES content (id)
);
INSERT INTO "file" VALUES(1,'/pics/a.jpg',1,1000,5,'/pics',NULL);
INSERT INTO "file" VALUES(2,'/pics/b.jpg',2,1000,5,'/pics',NULL);
INSERT INTO "file" VALUES(3,'/pics/c.jpg',NULL,1000,5,'/pics','truncated');
CREATE TABLE label (
	id INTEGER NOT NULL, 
	content_id INTEGER NOT NULL, 
	name TEXT NOT NULL, 
	source TEXT NOT NULL, 
	score REAL NOT NULL, 
	created_at TEXT NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (content_id, name, source), 
	FOREIGN KEY(content_id) REFERENCES content (id)
);
INSERT INTO "label" VALUES(1,1,'cat','me',0.9,'2026-11-29T02:14:50.767380+00:00');
CREATE TABLE meta (
	"key" TEXT NOT NULL, 
	value TEXT NOT NULL, 
	PRIMARY KEY ("key")
);
INSERT INTO "meta" VALUES('format','1');
INSERT INTO "meta" VALUES('model','1');
CREATE TABLE model (
	id INTEGER NOT NULL, 
	name TEXT NOT NULL, 
	dim INTEGER NOT NULL, 
	logit_scale REAL NOT NULL, 
	logit_bias REAL, 
	fingerprint TEXT NOT NULL, 
	spec TEXT NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (name), 
	UNIQUE (fingerprint)
);
INSERT INTO "model" VALUES(1,'toy',24,100.0,NULL,'print of toy','spec of toy');
CREATE TABLE scan (
	id INTEGER NOT NULL, 
	root TEXT NOT NULL, 
	started_at TEXT NOT NULL, 
	finished_at TEXT NOT NULL, 
	complete INTEGER NOT NULL, 
	files INTEGER NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "scan" VALUES(1,'/pics','2026-01-01T00:00:00+00:00','2026-11-29T02:14:50.768355+00:00',1,2);
CREATE TABLE snapshot (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	model_id INTEGER NOT NULL, 
	kind TEXT NOT NULL, 
	watermark INTEGER NOT NULL, 
	rows INTEGER NOT NULL, 
	sha256 TEXT NOT NULL, 
	file TEXT NOT NULL, 
	bytes INTEGER NOT NULL, 
	created_at TEXT NOT NULL, 
	FOREIGN KEY(model_id) REFERENCES model (id)
);
CREATE INDEX ix_file_content_id ON file (content_id);
CREATE INDEX embedding_journal ON embedding (model_id, id, content_id);
CREATE INDEX embedding_parts ON embedding (model_id, content_id) WHERE part > 0;
CREATE INDEX label_name ON label (name, content_id);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('embedding',2);
COMMIT;
