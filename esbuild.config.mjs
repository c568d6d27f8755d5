/**
 * How src/ becomes the one script inside the executable. CommonJS, because a single executable application starts
 * a CommonJS main script; dynamic imports become lazy blocks of the same file.
 */
import { readFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('.', import.meta.url))

/**
 * netlink finds its native addon with node-gyp-build, which looks for files beside the package. Inside the bundle
 * there are none: both architectures' addons are embedded and src/linux/native-addon.ts loads the right one.
 */
const embeddedNetlinkAddon = {
  name: 'embedded-netlink-addon',
  setup(build) {
    build.onLoad({ filter: /node_modules\/netlink\/dist\/raw\.js$/ }, async ({ path }) => {
      const source = await readFile(path, 'utf8')
      const load = "require('node-gyp-build')(__dirname + '/..')"
      if (!source.includes(load)) throw new Error(`${path} no longer loads its addon the way this plugin replaces`)
      const replacement = `(() => {
        const { loadNativeAddon } = require(${JSON.stringify(`${root}src/linux/native-addon.ts`)})
        return loadNativeAddon('netlink', {
          x64: require(${JSON.stringify(`${root}node_modules/netlink/prebuilds/linux-x64/node.napi.node`)}),
          arm64: require(${JSON.stringify(`${root}node_modules/netlink/prebuilds/linux-arm64/node.napi.node`)}),
        })
      })()`
      return { contents: source.replace(load, replacement), loader: 'js' }
    })
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
    supported: { using: true },
    minify: true,
    keepNames: true,
    legalComments: 'none',
    loader: { '.node': 'binary' },
    define: { EDGEMESH_BUILD: JSON.stringify(build) },
    plugins: [embeddedNetlinkAddon],
    metafile: true,
    logLevel: 'warning',
  }
}
