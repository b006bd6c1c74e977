// Render SVG files to PNG: one JSON job {svg, png, size} a line on stdin, the number of each finished job on stdout.
// resvg can abort the whole process on a damaged drawing: sprites.py sees where it stopped and goes on behind it.
import fs from 'node:fs';
import readline from 'node:readline';
import { createRequire } from 'node:module';

const { Resvg } = createRequire(`${process.argv[2]}/`)('@resvg/resvg-js');
let number = 0;
for await (const line of readline.createInterface({ input: process.stdin })) {
  const { svg, png, size } = JSON.parse(line);
  try {
    fs.writeFileSync(png, new Resvg(svg, { fitTo: { mode: 'width', value: size } }).render().asPng());
  } catch (error) {
    process.stderr.write(`${png}: ${error}\n`);
  }
  process.stdout.write(`${++number}\n`);
}
