/**
 * Writes V8's code cache for a script, as start.cjs compiles it: `node FLAGS make-code-cache.cjs SCRIPT OUTPUT`. Run it with
 * the Node and the V8 flags of the executable, and with `--random-seed=1`, or each run writes other bytes.
 */
'use strict'

const { readFileSync, writeFileSync } = require('node:fs')
const process = require('node:process')
const { Script } = require('node:vm')

const [scriptFile, outputFile] = process.argv.slice(2)
const script = new Script(readFileSync(scriptFile).latin1Slice(), { filename: 'edgemesh.cjs' })
writeFileSync(outputFile, script.createCachedData())
