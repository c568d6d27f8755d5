/**
 * How src/ becomes the one script inside the executable. CommonJS, because a single executable application starts
 * CommonJS; dynamic imports become lazy blocks of the same file.
 */
import { readFile } from 'node:fs/promises'
import { dirname, relative } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('.', import.meta.url))

/**
 * netlink finds its native addon with node-gyp-build, which looks for files beside the package. The bundle has no such
 * files: the executable carries the addon, and src/linux/native-addon.ts loads it. Two thirds of netlink are tables for
 * Wi-Fi and WireGuard, which nobody asks for.
 */
const netlinkInTheExecutable = {
  name: 'netlink-in-the-executable',
  setup(build) {
    build.onLoad({ filter: /node_modules\/netlink\/dist\/raw\.js$/ }, async ({ path }) => {
      const source = await readFile(path, 'utf8')
      const load = "require('node-gyp-build')(__dirname + '/..')"
      if (!source.includes(load)) throw new Error(`${path} no longer loads its addon the way this plugin replaces`)
      const loader = relative(dirname(path), `${root}src/linux/native-addon.ts`)
      return { contents: source.replace(load, `require(${JSON.stringify(loader)}).loadEmbeddedAddon('netlink')`) }
    })
    build.onLoad({ filter: /node_modules\/netlink\/dist\/(nl80211|wg)\// }, () => ({ contents: '' }))
  },
}

/**
 * esbuild's options; the caller adds `outfile`.
 * @param {{ version: string, commit: string }} build what `edgemesh --version` prints
 * @returns {import('esbuild').BuildOptions}
 */
export function bundleOptions(build) {
  return {
    absWorkingDir: root,
    entryPoints: ['src/main.ts'],
    bundle: true,
    platform: 'node',
    format: 'cjs',
    target: 'node24',
    // Node 24 has `using`. What esbuild makes of it for older ones throws the error of an earlier turn of a loop again.
    supported: { using: true, 'dynamic-import': false },
    // Identifiers stay: traces are readable, and esbuild's way of keeping names beside short ones costs 0.2 µs for each
    // function that is made, a tenth of what a new connection costs.
    minifySyntax: true,
    minifyWhitespace: true,
    legalComments: 'none',
    // The executable's first script (scripts/executable/start.cjs) calls the bundle as Node calls a CommonJS module.
    banner: { js: '(function (exports, require, module, __filename, __dirname) {' },
    footer: { js: '})' },
    define: { EDGEMESH_BUILD: JSON.stringify(build) },
    plugins: [netlinkInTheExecutable],
    metafile: true,
    logLevel: 'warning',
  }
}
