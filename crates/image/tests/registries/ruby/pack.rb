# Packs installed gems as their authors would (PLACE NAME=VERSION…), and makes the index of a gem server over them.
require "fileutils"
require "rubygems/package"

place, *wanted = ARGV
FileUtils.mkdir_p("#{place}/gems")
wanted.each do |word|
  name, version = word.split("=")
  spec = Gem::Specification.find_by_name(name)
  spec.version = version
  directory = Dir.glob("/usr/share/rubygems-integration/*/gems/#{name}-*").first
  Dir.chdir(directory) do
    spec.executables.clear unless File.directory?(spec.bindir)
    spec.files = Dir.glob("**/*").select { |path| File.file?(path) }
    FileUtils.mv(Gem::Package.build(spec, true), "#{place}/gems/")
  end
end
system("gem", "generate_index", "--directory", place, exception: true)
